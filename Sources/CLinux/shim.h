// What Linux has but Swift's Glibc module does not show, most of it because glibc's headers keep it behind _GNU_SOURCE.

int renameat2(int, const char *_Nonnull, int, const char *_Nonnull, unsigned int);

#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2

void *_Nullable memmem(const void *_Nullable, unsigned long, const void *_Nullable, unsigned long);

int sync_file_range(int, long long, long long, unsigned int);

// The value of SYNC_FILE_RANGE_WRITE: start writing, do not wait.
#define START_WRITEBACK 2

int mkostemp(char *_Nonnull, int);

// What O_TMPFILE adds to O_DIRECTORY: a file without a name in that directory.
#define WITHOUT_NAME 0x400000

// How glibc's allocator keeps memory (malloc.h, which Swift's Glibc module leaves out).
int mallopt(int, int);

#define M_TRIM_THRESHOLD (-1)
#define M_MMAP_THRESHOLD (-3)

// Linux 5.14; the C library's headers may be older.
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
