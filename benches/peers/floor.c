/* The least that a job server can do: what its system calls cost, and next to nothing else.

   One thread and epoll, one function, no checks, no limits, no uniques, no priorities: for the bench's client and worker
   only. A read a packet of a worker's, a write to whom an answer is for. BATCH: so many results for a client leave in one
   write (default 1), and what is held leaves after a millisecond at the latest. GEARMAN_ADDR: 127.0.0.1:port. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PRE_SLEEP = 4, NOOP = 6, SUBMIT_JOB = 7, JOB_CREATED = 8, GRAB_JOB = 9, NO_JOB = 10, JOB_ASSIGN = 11,
       WORK_COMPLETE = 13 };
enum { CONNS = 64, JOBS = 1 << 16, LARGEST = 64, LISTENER = CONNS };

static struct conn {
  int fd, held, asleep, due;
  size_t in, out;
  uint8_t incoming[1 << 18], outgoing[1 << 20];
} conns[CONNS];
static struct { int client; size_t size; char payload[LARGEST]; } jobs[JOBS];
static uint32_t first, next; /* the queue, by number */
static int used, batch = 1;

static void put(struct conn *to, uint32_t type, const char *body, size_t size) {
  uint32_t head[3] = {0, htonl(type), htonl((uint32_t)size)};
  memcpy(head, "\0RES", 4);
  memcpy(to->outgoing + to->out, head, sizeof head);
  memcpy(to->outgoing + to->out + sizeof head, body, size);
  to->out += sizeof head + size;
}

static void flush(struct conn *to) {
  if (to->out) send(to->fd, to->outgoing, to->out, MSG_NOSIGNAL);
  to->out = 0;
  to->held = to->due = 0;
}

static void submitted(int client, const char *body, size_t size) {
  const char *unique = body + strlen(body) + 1, *payload = unique + strlen(unique) + 1;
  uint32_t job = next++ % JOBS;
  jobs[job].client = client;
  jobs[job].size = (size_t)(body + size - payload);
  if (jobs[job].size > LARGEST) { fprintf(stderr, "a payload of more than %d bytes\n", LARGEST); exit(1); }
  memcpy(jobs[job].payload, payload, jobs[job].size);
  char handle[32];
  put(&conns[client], JOB_CREATED, handle, (size_t)sprintf(handle, "H:floor:%u", job));
  for (int i = 0; i < used; i++)
    if (conns[i].asleep) {
      conns[i].asleep = 0;
      put(&conns[i], NOOP, "", 0);
      flush(&conns[i]);
    }
}

static void grab(struct conn *worker) {
  if (first == next) { put(worker, NO_JOB, "", 0); return; }
  uint32_t job = first++ % JOBS;
  char body[64 + LARGEST];
  int size = sprintf(body, "H:floor:%u%cbench%c", job, 0, 0);
  memcpy(body + size, jobs[job].payload, jobs[job].size);
  put(worker, JOB_ASSIGN, body, (size_t)size + jobs[job].size);
}

static void complete(const char *body, size_t size) {
  struct conn *client = &conns[jobs[strtoul(body + strlen("H:floor:"), NULL, 10) % JOBS].client];
  put(client, WORK_COMPLETE, body, size);
  client->due = ++client->held >= batch || first == next;
}

static void packet(int from, uint32_t type, const char *body, size_t size) {
  struct conn *conn = &conns[from];
  if (type == SUBMIT_JOB) submitted(from, body, size);
  else if (type == GRAB_JOB) grab(conn);
  else if (type == WORK_COMPLETE) complete(body, size);
  else if (type == PRE_SLEEP && first != next) put(conn, NOOP, "", 0);
  else if (type == PRE_SLEEP) conn->asleep = 1;
}

static void readable(int from) {
  static const char status[] = "bench\t0\t0\t1\n.\n";
  struct conn *conn = &conns[from];
  ssize_t got = recv(conn->fd, conn->incoming + conn->in, sizeof conn->incoming - conn->in, 0);
  if (got == 0) { close(conn->fd); conn->fd = -1; conn->asleep = 0; conn->in = 0; }
  if (got <= 0) return;
  if (conn->incoming[0]) { send(conn->fd, status, strlen(status), MSG_NOSIGNAL); return; } /* an admin command */
  conn->in += (size_t)got;
  uint8_t *at = conn->incoming, *end = at + conn->in;
  while (end - at >= 12) {
    uint32_t head[3];
    memcpy(head, at, sizeof head);
    size_t size = ntohl(head[2]);
    if ((size_t)(end - at) < 12 + size) break;
    packet(from, ntohl(head[1]), (char *)at + 12, size);
    at += 12 + size;
  }
  conn->in = (size_t)(end - at);
  memmove(conn->incoming, at, conn->in);
  if (!conn->held) flush(conn);
  for (int i = 0; i < used; i++) if (conns[i].due) flush(&conns[i]);
}

static void joined(int poll, int listener) {
  int fd = accept(listener, NULL, NULL), one = 1, at = 0;
  while (at < used && conns[at].fd >= 0) at++;
  if (at == CONNS) exit(1);
  if (at == used) used++;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  conns[at].fd = fd;
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)at};
  epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

int main(void) {
  const char *address = getenv("GEARMAN_ADDR"), *most = getenv("BATCH");
  if (most) batch = atoi(most);
  int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  at.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1));
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, CONNS)) { perror(address); return 1; }
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = LISTENER}, events[CONNS];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int holds = 0;
    for (int i = 0; i < used; i++) holds |= conns[i].held;
    int count = epoll_wait(poll, events, CONNS, holds ? 1 : -1);
    if (count == 0) for (int i = 0; i < used; i++) flush(&conns[i]);
    for (int i = 0; i < count; i++)
      if (events[i].data.u32 == LISTENER) joined(poll, listener);
      else readable((int)events[i].data.u32);
  }
}
