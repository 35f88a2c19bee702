#define _GNU_SOURCE
#include "mapping_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

// A slot is taken while `is_taken` is set, and valid for the handler while `start` is not 0.
static struct {
  atomic_bool is_taken;
  atomic_uintptr_t start;
  atomic_size_t byte_count;
  atomic_ptrdiff_t damage;
} slots[MAPPING_GUARD_LIMIT];

// Slots at and behind this index have never been taken.
static atomic_int used_count;

static struct sigaction previous;
static uintptr_t page_mask;

static void handle(int signal_number, siginfo_t *info, void *context) {
  const int saved = errno;
  const uintptr_t address = (uintptr_t)info->si_addr;
  const int count = atomic_load(&used_count);
  for (int i = 0; i < count; i++) {
    const uintptr_t start = atomic_load(&slots[i].start);
    if (start == 0 || address < start || address - start >= atomic_load(&slots[i].byte_count)) continue;
    void *page = (void *)(address & page_mask);
    // The thread that reads holds the mapping, so it is not being unmapped meanwhile.
    if (mmap(page, ~page_mask + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) break;
    ptrdiff_t none = -1;
    atomic_compare_exchange_strong(&slots[i].damage, &none, (ptrdiff_t)((uintptr_t)page - start));
    errno = saved;
    return;
  }
  errno = saved;
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal_number, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal_number);
  } else {
    // The access is repeated on return, and ends the process then.
    signal(signal_number, SIG_DFL);
  }
}

static void install(void) {
  page_mask = ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
  struct sigaction action = {0};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous);
}

int mapping_guard_add(const void *start, size_t byte_count) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, install);
  for (int i = 0; i < MAPPING_GUARD_LIMIT; i++) {
    bool free = false;
    if (!atomic_compare_exchange_strong(&slots[i].is_taken, &free, true)) continue;
    int count = atomic_load(&used_count);
    while (count <= i && !atomic_compare_exchange_weak(&used_count, &count, i + 1)) {
    }
    atomic_store(&slots[i].damage, -1);
    atomic_store(&slots[i].byte_count, byte_count);
    atomic_store(&slots[i].start, (uintptr_t)start);
    return i;
  }
  return -1;
}

ptrdiff_t mapping_guard_damage(int number) { return atomic_load(&slots[number].damage); }

void mapping_guard_remove(int number) {
  atomic_store(&slots[number].start, 0);
  atomic_store(&slots[number].is_taken, false);
}
