#ifndef MAPPING_GUARD_H
#define MAPPING_GUARD_H

#include <stddef.h>

// Reading a mapped page that cannot be had any more, because the file has become shorter or its device fails, raises
// SIGBUS, and by default ends the process. Here the page of a registered mapping is replaced by zeros instead, and the
// mapping counts as damaged from then on: whoever read it asks afterwards, and throws away what was computed. Reading
// itself costs nothing more. A SIGBUS anywhere else goes to the handler that was there before.
//
// This must be C: a signal handler may neither allocate nor take a lock, which Swift code cannot promise.

/// Registers a mapping. Returns its number, or -1 where MAPPING_GUARD_LIMIT of them are registered already.
int mapping_guard_add(const void *_Nonnull start, size_t byte_count);

/// Where the first page was replaced, in bytes from the start of the mapping, or -1 where none was.
ptrdiff_t mapping_guard_damage(int number);

/// Ends the registration. Call it before the memory is unmapped.
void mapping_guard_remove(int number);

#define MAPPING_GUARD_LIMIT 8192

#endif
