/* Sends as another process: SCM_CREDENTIALS with a pid of our choice. Needs
 * CAP_SYS_ADMIN over the pid namespace. */
#include "http2.h"

static pid_t forged_pid;
static ssize_t as_another(int fd, const void *bytes, size_t length) {
  struct ucred who = {.pid = forged_pid, .uid = getuid(), .gid = getgid()};
  char control[CMSG_SPACE(sizeof who)] = {0};
  struct iovec one = {.iov_base = (void *)bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control,
                           .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_CREDENTIALS;
  c->cmsg_len = CMSG_LEN(sizeof who);
  memcpy(CMSG_DATA(c), &who, sizeof who);
  ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
  dprintf(1, sent == (ssize_t)length ? "FORGED\n" : "NOT FORGED: %s\n", strerror(errno));
  return sent;
}
