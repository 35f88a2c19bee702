#include "processes.h"

// Compiled with the package's trait MPI only: nobody else needs an MPI.
#ifdef NORMFOLD_MPI
#include <mpi.h>
#include <stdio.h>
#include <time.h>

int processes_start(void) {
  int provided;
  int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
  if (code != MPI_SUCCESS) return code;
  return MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

int processes_rank(void) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int processes_count(void) {
  int count = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &count);
  return count;
}

int processes_neighbours(void) {
  MPI_Comm machine;
  int count = 1;
  if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine) != MPI_SUCCESS) return 1;
  MPI_Comm_size(machine, &count);
  MPI_Comm_free(&machine);
  return count;
}

int processes_sum_doubles(double *numbers, int count) {
  return MPI_Allreduce(MPI_IN_PLACE, numbers, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
}

int processes_sum_floats(float *numbers, int count) {
  return MPI_Allreduce(MPI_IN_PLACE, numbers, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

int processes_send(void *bytes, int count, int root) {
  return MPI_Bcast(bytes, count, MPI_BYTE, root, MPI_COMM_WORLD);
}

int processes_wait(void) {
  MPI_Request request;
  int isDone = 0;
  int code = MPI_Ibarrier(MPI_COMM_WORLD, &request);
  // MPI's own barrier asks without a pause.
  struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
  while (code == MPI_SUCCESS) {
    code = MPI_Test(&request, &isDone, MPI_STATUS_IGNORE);
    if (isDone) break;
    nanosleep(&pause, NULL);
  }
  return code;
}

void processes_end(void) { MPI_Finalize(); }

void processes_abort(int status) { MPI_Abort(MPI_COMM_WORLD, status); }

void processes_describe(int code, char *text, int capacity) {
  char found[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, found, &length) != MPI_SUCCESS) length = 0;
  snprintf(text, (size_t)capacity, "%.*s", length, found);
}
#endif
