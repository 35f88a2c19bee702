#ifndef NORMFOLD_CLONES_H
#define NORMFOLD_CLONES_H

// Compiles a function for several instruction sets; the one of the machine is chosen when the program starts. Where there is
// but one, as on arm64 with NEON, there is but one.
#if defined(__x86_64__) && defined(__linux__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

#endif
