/* lp_unix.h - sockets with a name in a directory that is open: whatever becomes of its path, and however long it is. */
#ifndef LP_UNIX_H
#define LP_UNIX_H
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Never through a link. A descriptor, or -1. */
static inline int lp_open_directory(const char *path) {
  return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}
static inline int lp_unix_socket(void) {
  return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}
static inline struct sockaddr_un lp_unix_address(int directory, const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, name);
  return address;
}
/* It has the name once it listens: another process that found it before would take it for one that was left. For its
 * owner alone before anybody can connect. */
static inline int lp_unix_listen(int descriptor, int directory, const char *name, const char *before, int backlog) {
  struct sockaddr_un address = lp_unix_address(directory, before);
  unlinkat(directory, before, 0); /* of a process that had our number, and was killed in between */
  if (bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0) return -1;
  if (fchmodat(directory, before, 0600, 0) == 0 && listen(descriptor, backlog) == 0 &&
      renameat(directory, before, directory, name) == 0)
    return 0;
  int reason = errno;
  unlinkat(directory, before, 0);
  errno = reason;
  return -1;
}
/* 1: somebody listens there, 0: nobody does. */
static inline int lp_unix_is_served(int directory, const char *name) {
  int descriptor = lp_unix_socket();
  if (descriptor < 0) return 1; /* not known: then it is left alone */
  struct sockaddr_un address = lp_unix_address(directory, name);
  int result = connect(descriptor, (struct sockaddr *)&address, sizeof address);
  int refused = result != 0 && (errno == ECONNREFUSED || errno == ENOENT);
  close(descriptor);
  return !refused;
}
/* 1: it has been there for longer than so many seconds. */
static inline int lp_is_older(int directory, const char *name, int seconds) {
  struct stat about;
  return fstatat(directory, name, &about, AT_SYMLINK_NOFOLLOW) == 0 && time(NULL) - about.st_mtime > seconds;
}
/* GNU extensions that Swift does not see without _GNU_SOURCE. */
int accept4(int descriptor, struct sockaddr *address, socklen_t *size, int flags);
struct lp_peer {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
static inline int lp_unix_accept(int descriptor) {
  return accept4(descriptor, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}
/* 1: it is the process's own user, or root, who has connected. */
static inline int lp_unix_may_read(int descriptor) {
  struct lp_peer peer;
  socklen_t size = sizeof peer;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return 0;
  return peer.uid == 0 || peer.uid == geteuid();
}
#endif
