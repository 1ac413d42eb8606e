/* What libgearman's command line tools do not reach: options, statuses, uniques, epoch jobs, and all work packets.
 * `libgearman PORT client`: goes through a client's calls and prints what came of each, one a line.
 * `libgearman PORT worker`: serves `talk`, which sends one of everything, with a timeout, until it is killed. */
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void say(const char *what, gearman_return_t code) {
    printf("%s: %s\n", what, code == GEARMAN_SUCCESS ? "success" : gearman_strerror(code));
}

/* The callbacks of a task: each prints its packet. */
static gearman_return_t said(const char *what, gearman_task_st *task) {
    printf("%s: %.*s\n", what, (int)gearman_task_data_size(task),
           gearman_task_data(task) ? (const char *)gearman_task_data(task) : "");
    return GEARMAN_SUCCESS;
}
static gearman_return_t on_data(gearman_task_st *task) { return said("data", task); }
static gearman_return_t on_warning(gearman_task_st *task) { return said("warning", task); }
static gearman_return_t on_complete(gearman_task_st *task) { return said("complete", task); }
static gearman_return_t on_exception(gearman_task_st *task) { return said("exception", task); }
static gearman_return_t on_fail(gearman_task_st *task) {
    (void)task;
    puts("fail");
    return GEARMAN_SUCCESS;
}
static gearman_return_t on_status(gearman_task_st *task) {
    printf("progress: %u/%u\n", gearman_task_numerator(task), gearman_task_denominator(task));
    return GEARMAN_SUCCESS;
}

static void run(gearman_client_st *client, const char *payload) {
    gearman_return_t code;
    gearman_client_add_task(client, NULL, NULL, "talk", NULL, payload, strlen(payload), &code);
    say(payload, code);
    gearman_client_run_tasks(client);
    gearman_client_task_free_all(client);
}

static void run_and_print(gearman_client_st *client, const char *what,
                          void *(*call)(gearman_client_st *, const char *, const char *, const void *, size_t, size_t *,
                                        gearman_return_t *)) {
    size_t size;
    gearman_return_t code;
    char *result = call(client, "reverse", NULL, what, strlen(what), &size, &code);
    printf("%s: %.*s\n", what, (int)size, result ? result : "");
    free(result);
}

static gearman_client_st *new_client(in_port_t port) {
    gearman_client_st *client = gearman_client_create(NULL);
    gearman_client_set_timeout(client, 10000);
    gearman_client_add_server(client, "127.0.0.1", port);
    return client;
}

static int be_client(in_port_t port) {
    gearman_client_st *client = new_client(port);

    say("echo", gearman_client_echo(client, "a\0b", 3));
    say("echo of nothing much", gearman_client_echo(client, "0", 1));
    printf("option exceptions: %s\n", gearman_client_set_server_option(client, "exceptions", 10) ? "granted" : "refused");
    printf("option nonsense: %s\n", gearman_client_set_server_option(client, "nonsense", 8) ? "granted" : "refused");

    run_and_print(client, "normal", gearman_client_do);
    run_and_print(client, "high", gearman_client_do_high);
    run_and_print(client, "low", gearman_client_do_low);

    gearman_client_set_data_fn(client, on_data);
    gearman_client_set_warning_fn(client, on_warning);
    gearman_client_set_status_fn(client, on_status);
    gearman_client_set_complete_fn(client, on_complete);
    gearman_client_set_exception_fn(client, on_exception);
    gearman_client_set_fail_fn(client, on_fail);
    run(client, "on");
    run(client, "fail");
    run(client, "throw");

    /* Nobody serves `parked`: its jobs stay queued. */
    gearman_job_handle_t handle;
    bool known, running;
    uint32_t numerator, denominator;
    say("background", gearman_client_do_background(client, "parked", "my-unique", "x", 1, handle));
    gearman_return_t code = gearman_client_job_status(client, handle, &known, &running, &numerator, &denominator);
    printf("status: %s known=%d running=%d %u/%u\n", code == GEARMAN_SUCCESS ? "success" : "error", known, running, numerator,
           denominator);
    gearman_status_t status = gearman_client_unique_status(client, "my-unique", 9);
    printf("unique status: known=%d running=%d\n", gearman_status_is_known(status), gearman_status_is_running(status));
    status = gearman_client_unique_status(client, "no-such-unique", 14);
    printf("unknown unique: known=%d\n", gearman_status_is_known(status));

    /* libgearman 1.1.20 is of no more use after that. */
    gearman_client_free(client);
    client = new_client(port);
    gearman_job_handle_t again;
    say("same unique", gearman_client_do_background(client, "parked", "my-unique", "y", 1, again));
    printf("same unique, same handle: %s\n", strcmp(handle, again) == 0 ? "yes" : "no");
    say("high background", gearman_client_do_high_background(client, "parked", NULL, "x", 1, again));
    say("low background", gearman_client_do_low_background(client, "parked", NULL, "x", 1, again));

    gearman_task_attr_t at = gearman_task_attr_init_epoch(time(NULL) + 1000, GEARMAN_JOB_PRIORITY_NORMAL);
    gearman_argument_t argument = gearman_argument_make(NULL, 0, "x", 1);
    gearman_task_st *task = gearman_execute(client, "parked", 6, NULL, 0, &at, &argument, 0);
    printf("epoch job: %s\n", task && gearman_success(gearman_task_return(task)) ? "success" : "error");

    gearman_client_free(client);
    return 0;
}

static gearman_return_t talk(gearman_job_st *job, void *context) {
    (void)context;
    gearman_job_send_status(job, 1, 2);
    gearman_job_send_data(job, "part", 4);
    gearman_job_send_warning(job, "careful", 7);
    const char *payload = gearman_job_workload(job);
    size_t size = gearman_job_workload_size(job);
    if (size == 4 && memcmp(payload, "fail", 4) == 0) return GEARMAN_FATAL;
    if (size == 5 && memcmp(payload, "throw", 5) == 0) {
        gearman_job_send_exception(job, "thrown", 6);
        return GEARMAN_FATAL;
    }
    if (gearman_job_unique(job) && strlen(gearman_job_unique(job))) gearman_job_send_data(job, "unique", 6);
    gearman_job_send_complete(job, payload, size);
    return GEARMAN_SUCCESS;
}

static int be_worker(in_port_t port) {
    gearman_worker_st *worker = gearman_worker_create(NULL);
    gearman_worker_add_server(worker, "127.0.0.1", port);
    gearman_worker_set_identifier(worker, "libgearman-worker", 17);
    gearman_function_t function = gearman_function_create(talk);
    gearman_worker_define_function(worker, "talk", 4, function, 60000, NULL);
    /* A job that fails is an error here, too: go on until the server is gone. */
    gearman_return_t code;
    do {
        code = gearman_worker_work(worker);
    } while (code != GEARMAN_COULD_NOT_CONNECT && code != GEARMAN_NO_SERVERS && code != GEARMAN_LOST_CONNECTION);
    return 1;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    in_port_t port = (in_port_t)atoi(arguments[1]);
    return strcmp(arguments[2], "worker") == 0 ? be_worker(port) : be_client(port);
}
