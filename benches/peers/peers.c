/* The peers to measure beside: libgearman, and bytes over a blocking socket with no library at all, which is the ceiling.
 *
 * usage: peers raw|libgearman client|worker, told by the environment as examples/bench_client.rs and bench_worker.rs are:
 * GEARMAN_ADDR, FUNC, SECS, N, DEPTH, SIZE, MODE (fg, bg); the raw worker keeps GRABS requests for jobs outstanding. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <libgearman/gearman.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { CAN_DO = 1, NOOP = 6, PRE_SLEEP = 4, SUBMIT_JOB = 7, JOB_CREATED = 8, GRAB_JOB = 9, NO_JOB = 10, JOB_ASSIGN = 11,
       WORK_COMPLETE = 13, SUBMIT_JOB_BG = 18, HEADER = 12, MAX_LATENCIES = 4000000 };

static char host[64];
static int port;
static const char *function;
static size_t payload_size, depth;
static unsigned long most_jobs;
static double most_seconds;
static bool background;

static void die(const char *what) { fprintf(stderr, "peers: %s (%s)\n", what, strerror(errno)); exit(1); }

static const char *setting(const char *name, const char *otherwise) {
  const char *text = getenv(name);
  return text && *text ? text : otherwise;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu_seconds(void) {
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  return use.ru_utime.tv_sec + use.ru_stime.tv_sec + (use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

static long peak_kb(void) {
  char line[128];
  long kb = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &kb);
  if (status) fclose(status);
  return kb;
}

/* What a client measures. */
static double started, cpu_before, *begun;
static float *latencies;
static unsigned long submitted, done;

static void start_clock(void) {
  latencies = malloc(MAX_LATENCIES * sizeof *latencies);
  begun = calloc(depth, sizeof *begun);
  cpu_before = cpu_seconds();
  started = now();
}

static bool may_submit(void) { return submitted < most_jobs && now() - started < most_seconds; }

static void job_done(double since) {
  if (done < MAX_LATENCIES) latencies[done] = (float)((now() - since) * 1e6);
  done++;
}

static int by_size(const void *a, const void *b) { return (*(float *)a > *(float *)b) - (*(float *)a < *(float *)b); }

static void print_client(void) {
  double seconds = now() - started, cpu = cpu_seconds() - cpu_before;
  size_t kept = done < MAX_LATENCIES ? done : MAX_LATENCIES;
  qsort(latencies, kept, sizeof *latencies, by_size);
  printf("{\"jobs\":%lu,\"secs\":%.4f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"cpu_us_per_job\":%.3f,\"rss_kb\":%ld}\n", done,
         seconds, kept ? latencies[kept / 2] : 0, kept ? latencies[kept * 99 / 100] : 0, cpu * 1e6 / (done ? done : 1),
         peak_kb());
}

/* What a worker measures. */
static volatile sig_atomic_t stopped;
static unsigned long answered;
static int sock;

/* Ends a read that is blocked, and one that was just about to be. */
static void stop(int signal) { (void)signal; stopped = 1; shutdown(sock, SHUT_RD); }

static void on_sigterm(void) {
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
}

static void job_answered(void) { if (answered++ == 0) cpu_before = cpu_seconds(); }

static void print_worker(void) {
  double micros = answered ? (cpu_seconds() - cpu_before) * 1e6 : 0;
  printf("{\"jobs\":%lu,\"cpu_us\":%.0f,\"cpu_us_per_job\":%.3f,\"rss_kb\":%ld}\n", answered, micros,
         micros / (answered ? answered : 1), peak_kb());
}

/* Bytes over a socket. */
static char *in, *out;
static size_t in_start, in_end, in_room, out_size, out_room;

static void raw_connect(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  int one = 1;
  inet_pton(AF_INET, host, &address.sin_addr);
  sock = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(sock, (struct sockaddr *)&address, sizeof address)) die("connect");
  setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  in = malloc(in_room = 2 * (payload_size + 65536));
  out = malloc(out_room = 65536);
}

static void put(const void *bytes, size_t size) {
  while (out_size + size > out_room) out = realloc(out, out_room *= 2);
  memcpy(out + out_size, bytes, size);
  out_size += size;
}

static void put_packet(uint32_t kind, size_t size) {
  uint32_t words[3] = {htonl(0x00524551), htonl(kind), htonl((uint32_t)size)};
  put(words, HEADER);
}

static void flush_out(void) {
  for (size_t at = 0; at < out_size;) {
    ssize_t taken = write(sock, out + at, out_size - at);
    if (taken < 0 && errno != EINTR) die("write");
    if (taken > 0) at += taken;
  }
  out_size = 0;
}

/* The next packet; reads when `wait`. Returns its type, or 0 when there is none. */
static uint32_t take_packet(bool wait, char **body, size_t *size) {
  for (;;) {
    if (in_end - in_start >= HEADER) {
      uint32_t words[3];
      memcpy(words, in + in_start, HEADER);
      *size = ntohl(words[2]);
      if (*size + HEADER > in_room) in = realloc(in, in_room = 2 * (*size + HEADER));
      if (in_end - in_start >= HEADER + *size) {
        *body = in + in_start + HEADER;
        in_start += HEADER + *size;
        return ntohl(words[1]);
      }
    }
    if (!wait) return 0;
    memmove(in, in + in_start, in_end - in_start);
    in_end -= in_start;
    in_start = 0;
    ssize_t got = read(sock, in + in_end, in_room - in_end);
    if (stopped) return 0;
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) die("read");
    in_end += got;
  }
}

static void raw_client(void) {
  char *payload = malloc(payload_size + 1), *body;
  size_t size, name = strlen(function) + 1, newest = 0, oldest = 0;
  memset(payload, 'x', payload_size);
  raw_connect();
  start_clock();
  bool more = true;
  while (more || done < submitted) {
    while ((more = more && may_submit()) && submitted - done < depth) {
      put_packet(background ? SUBMIT_JOB_BG : SUBMIT_JOB, name + 1 + payload_size);
      put(function, name);
      put("", 1);
      put(payload, payload_size);
      begun[newest++ % depth] = now();
      submitted++;
    }
    flush_out();
    for (bool wait = done < submitted; ; wait = false) {
      uint32_t kind = take_packet(wait, &body, &size);
      if (!kind) break;
      if (kind == WORK_COMPLETE && strnlen(body, size) + 1 + payload_size != size) die("a result of another length");
      if (kind == (background ? JOB_CREATED : WORK_COMPLETE)) job_done(begun[oldest++ % depth]);
      else if (kind != JOB_CREATED) die("an unexpected packet");
    }
  }
  print_client();
}

static void raw_worker(void) {
  char *body;
  size_t size;
  int grabs = atoi(setting("GRABS", "1")), outstanding = grabs;
  on_sigterm();
  raw_connect();
  put_packet(CAN_DO, strlen(function));
  put(function, strlen(function));
  for (int i = 0; i < grabs; i++) put_packet(GRAB_JOB, 0);
  flush_out();
  bool asleep = false;
  while (!stopped) {
    uint32_t kind = take_packet(false, &body, &size);
    if (!kind) {
      flush_out();
      kind = take_packet(true, &body, &size);
    }
    if (kind == JOB_ASSIGN) {
      size_t handle = strlen(body) + 1, name = strlen(body + handle) + 1;
      job_answered();
      put_packet(WORK_COMPLETE, size - name);
      put(body, handle);
      put(body + handle + name, size - handle - name);
      put_packet(GRAB_JOB, 0);
    } else if (kind == NO_JOB && --outstanding == 0) {
      asleep = true;
      put_packet(PRE_SLEEP, 0);
    } else if (kind == NOOP && asleep) {
      asleep = false;
      outstanding = grabs;
      for (int i = 0; i < grabs; i++) put_packet(GRAB_JOB, 0);
    }
  }
  print_worker();
}

/* libgearman. */
static gearman_return_t lib_complete(gearman_task_st *task) {
  if (!background && gearman_task_data_size(task) != payload_size) die("a result of another length");
  job_done(*(double *)gearman_task_context(task));
  return GEARMAN_SUCCESS;
}

static void lib_client(void) {
  char *payload = malloc(payload_size + 1);
  gearman_client_st *client = gearman_client_create(NULL);
  gearman_return_t result;
  memset(payload, 'x', payload_size);
  gearman_client_add_server(client, host, port);
  if (gearman_failed(gearman_client_echo(client, "x", 1))) die("echo");
  gearman_client_set_complete_fn(client, lib_complete);
  if (background) gearman_client_set_created_fn(client, lib_complete);
  start_clock();
  while (may_submit()) {
    if (depth == 1) {
      double since = now();
      size_t size = 0;
      submitted++;
      if (background) {
        gearman_job_handle_t handle;
        if (gearman_failed(gearman_client_do_background(client, function, NULL, payload, payload_size, handle))) die("do");
      } else {
        void *reply = gearman_client_do(client, function, NULL, payload, payload_size, &size, &result);
        if (gearman_failed(result) || size != payload_size) die("do");
        free(reply);
      }
      job_done(since);
      continue;
    }
    for (size_t i = 0; i < depth && submitted < most_jobs; i++, submitted++) {
      begun[i] = now();
      if (background) gearman_client_add_task_background(client, NULL, &begun[i], function, NULL, payload, payload_size, &result);
      else gearman_client_add_task(client, NULL, &begun[i], function, NULL, payload, payload_size, &result);
      if (gearman_failed(result)) die("add_task");
    }
    if (gearman_failed(gearman_client_run_tasks(client))) die("run_tasks");
    gearman_client_task_free_all(client);
  }
  print_client();
}

static gearman_return_t lib_run(gearman_job_st *job, void *context) {
  (void)context;
  job_answered();
  return gearman_job_send_complete(job, gearman_job_workload(job), gearman_job_workload_size(job));
}

static void lib_worker(void) {
  gearman_worker_st *worker = gearman_worker_create(NULL);
  gearman_worker_add_server(worker, host, port);
  gearman_worker_set_timeout(worker, 200);
  gearman_worker_define_function(worker, function, strlen(function), gearman_function_create(lib_run), 0, NULL);
  on_sigterm();
  while (!stopped) gearman_worker_work(worker);
  print_worker();
}

int main(int count, char **words) {
  if (count != 3 || sscanf(setting("GEARMAN_ADDR", "127.0.0.1:4730"), "%63[^:]:%d", host, &port) != 2)
    die("usage: peers raw|libgearman client|worker");
  function = setting("FUNC", "bench");
  most_seconds = atof(setting("SECS", "2"));
  most_jobs = strtoul(setting("N", "4000000000"), NULL, 10);
  depth = strtoul(setting("DEPTH", "1"), NULL, 10);
  payload_size = strtoul(setting("SIZE", "16"), NULL, 10);
  background = !strcmp(setting("MODE", "fg"), "bg");
  bool raw = !strcmp(words[1], "raw"), client = !strcmp(words[2], "client");
  (raw ? client ? raw_client : raw_worker : client ? lib_client : lib_worker)();
}
