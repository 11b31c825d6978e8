/* Loaded before a program: files below ODD_FOLDER are as on a mount whose server is gone (ODD_HOW=hang), or in a folder
 * that may not be entered (ODD_HOW=denied). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_odd(const char *path) {
  const char *folder = getenv("ODD_FOLDER");
  if (folder == NULL || path == NULL || strncmp(path, folder, strlen(folder)) != 0) return 0;
  if (strcmp(getenv("ODD_HOW"), "hang") == 0) {
    for (;;) pause();
  }
  errno = EACCES;
  return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int statx(int at, const char *path, int flags, unsigned mask, struct statx *into) {
  return is_odd(path) ? -1 : REAL(statx)(at, path, flags, mask, into);
}

char *realpath(const char *path, char *into) {
  return is_odd(path) ? NULL : REAL(realpath)(path, into);
}

int open64(const char *path, int flags, ...) {
  if (is_odd(path)) return -1;
  __builtin_va_list more;
  __builtin_va_start(more, flags);
  mode_t mode = __builtin_va_arg(more, mode_t);
  __builtin_va_end(more);
  return REAL(open64)(path, flags, mode);
}
