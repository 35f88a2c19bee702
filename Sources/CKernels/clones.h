#ifndef NORMFOLD_CLONES_H
#define NORMFOLD_CLONES_H

// Compiles a function for several instruction sets; the one of the machine is chosen when the program starts. Where there is
// but one, as on arm64 with NEON, there is but one.
// The choice comes before the thread sanitizer is ready, and would end the process there.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_ONE_CLONE
#endif
#endif
#if defined(__x86_64__) && defined(__linux__) && !defined(HAS_ONE_CLONE)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

#endif
