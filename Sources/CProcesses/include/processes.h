// What a training run needs of MPI, as plain functions: the handles of MPI are macros, which differ from one
// implementation to the other, and Swift imports neither kind.
//
// Everything is called by one thread, always the same (MPI_THREAD_FUNNELED), but for processes_abort. Functions that
// return int return 0, or a code of MPI that processes_describe puts into words.
#pragma once

// Joins the processes that the launcher started. To be called once, before all others.
int processes_start(void);

// The number of this process, from 0, and how many there are: of all, and of those on this machine.
int processes_rank(void);
int processes_count(void);
int processes_neighbours(void);

// Replaces the numbers of every process by their sums over all processes, which have the same bits everywhere.
int processes_sum_doubles(double *numbers, int count);
int processes_sum_floats(float *numbers, int count);

// Replaces the bytes of every process by those of one.
int processes_send(void *bytes, int count, int root);

// Returns when every process has called it, and uses no core while it waits.
int processes_wait(void);

// Leaves the others, who must all call it.
void processes_end(void);

// Ends every process at once.
void processes_abort(int status);

// Puts a code of the functions above into words; `capacity` bytes at most, with the 0 behind them.
void processes_describe(int code, char *text, int capacity);
