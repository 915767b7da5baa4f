/* A completion server that knows when it sent what.
 *
 *     server SEED FIRST_MEDIAN_MS FIRST_SIGMA GAP_MEDIAN_MS GAP_SIGMA CHUNKS
 *
 * Prints its port on 127.0.0.1 and serves until standard input ends. POST /v1/completions streams
 * min(max_tokens, CHUNKS) chunks of one token each as vLLM does (head at once, usage at the end, [DONE]), at
 * times drawn from two lognormal distributions by SEED and the number in the prompt's last "[request N]".
 * A request without such a number, or one that does not stream, is answered at once and is not logged.
 * GET /log answers with all that was logged since the last GET /log, as 64-bit little-endian integers:
 *
 *     requests, chunks
 *     per request: number, mono_ns when its last byte was read, mono_ns when the kernel had it (0: unknown)
 *     per chunk:   index of its request, planned mono_ns, mono_ns just before send()
 *
 * One thread, one epoll. A client that does not read fast enough for the socket's buffer ends the server.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 8192
#define MAX_EVENTS 512

typedef struct {
    int64_t number, read_ns, kernel_ns;
} Request;

typedef struct {
    int64_t request, planned_ns, sent_ns;
} Chunk;

typedef struct {
    char *input;
    size_t length, capacity;
    uint64_t random;
    int64_t request; /* index in the log; -1 while nothing is streamed */
    int64_t due_ns;
    int64_t prompt_tokens;
    int sent, count;
    uint32_t life; /* counts the connections that had this descriptor */
    int is_open, closes;
} Connection;

typedef struct {
    int64_t due_ns;
    int descriptor;
    uint32_t life;
} Due;

static Connection connections[MAX_CONNECTIONS];
static Due heap[MAX_CONNECTIONS * 2];
static int heap_size;
static Request *requests;
static Chunk *chunks;
static int64_t request_count, request_room, chunk_count, chunk_room;
static int poller;
static uint64_t seed;
static double first_median_ms, first_sigma, gap_median_ms, gap_sigma;
static int most_chunks;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t mixed = (*state += 0x9e3779b97f4a7c15ULL);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return mixed ^ (mixed >> 31);
}

static int64_t lognormal_ns(uint64_t *state, double median_ms, double sigma) {
    double first = ((next_random(state) >> 11) + 1) / 9007199254740993.0;
    double second = (next_random(state) >> 11) / 9007199254740992.0;
    double normal = sqrt(-2.0 * log(first)) * cos(2.0 * M_PI * second);
    return (int64_t)(median_ms * 1e6 * exp(sigma * normal));
}

static void heap_push(Due due) {
    if (heap_size == MAX_CONNECTIONS * 2) {
        fprintf(stderr, "too many requests are due\n");
        exit(1);
    }
    int place = heap_size++;
    while (place && heap[(place - 1) / 2].due_ns > due.due_ns) {
        heap[place] = heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    heap[place] = due;
}

static Due heap_pop(void) {
    Due top = heap[0], last = heap[--heap_size];
    int place = 0;
    for (;;) {
        int child = 2 * place + 1;
        if (child >= heap_size) break;
        if (child + 1 < heap_size && heap[child + 1].due_ns < heap[child].due_ns) child++;
        if (heap[child].due_ns >= last.due_ns) break;
        heap[place] = heap[child];
        place = child;
    }
    heap[place] = last;
    return top;
}

static void *with_room(void *items, int64_t count, int64_t *room, size_t size) {
    if (count < *room) return items;
    *room = *room ? *room * 2 : 65536;
    items = realloc(items, *room * size);
    if (!items) fail("realloc");
    return items;
}

static void close_connection(int descriptor) {
    Connection *connection = &connections[descriptor];
    if (!connection->is_open) return;
    connection->is_open = 0;
    connection->life++;
    close(descriptor);
}

/* All of it or, where the client has gone, nothing more on this connection. */
static int send_all(int descriptor, const char *content, size_t length) {
    while (length) {
        ssize_t sent = send(descriptor, content, length, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) {
                fprintf(stderr, "the client does not read what it asked for\n");
                exit(1);
            }
            close_connection(descriptor);
            return -1;
        }
        content += sent;
        length -= sent;
    }
    return 0;
}

static void reply(int descriptor, int status, const char *kind, const char *body, size_t length) {
    char head[256];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", status,
                        status == 200 ? "OK" : "Not Found", kind, length);
    int closes = connections[descriptor].closes;
    if (send_all(descriptor, head, size) == 0 && send_all(descriptor, body, length) == 0 && closes)
        close_connection(descriptor);
}

static int framed(char *target, size_t room, const char *event, int length) {
    return snprintf(target, room, "%x\r\n%.*s\r\n", length, length, event);
}

/* The chunk that is due; the last is followed by the usage and the end. */
static void send_chunk(int descriptor) {
    Connection *connection = &connections[descriptor];
    int is_last = connection->sent == connection->count - 1;
    char event[512], buffer[2048];
    int length = snprintf(event, sizeof event,
                          "data: {\"id\":\"cmpl-%lld\",\"object\":\"text_completion\",\"created\":0,"
                          "\"model\":\"truth\",\"choices\":[{\"index\":0,\"text\":\" w%d\","
                          "\"logprobs\":null,\"finish_reason\":%s,\"stop_reason\":null,"
                          "\"token_ids\":[%d],\"prompt_token_ids\":null}],\"usage\":null}\n\n",
                          (long long)connection->request, connection->sent,
                          is_last ? "\"stop\"" : "null", 1000 + connection->sent);
    int size = framed(buffer, sizeof buffer, event, length);
    chunks = with_room(chunks, chunk_count, &chunk_room, sizeof *chunks);
    Chunk *entry = &chunks[chunk_count++];
    *entry = (Chunk){connection->request, connection->due_ns, clock_ns(CLOCK_MONOTONIC)};
    if (send_all(descriptor, buffer, size) < 0) return;
    connection->sent++;
    if (!is_last) {
        connection->due_ns += lognormal_ns(&connection->random, gap_median_ms, gap_sigma);
        heap_push((Due){connection->due_ns, descriptor, connection->life});
        return;
    }
    length = snprintf(event, sizeof event,
                      "data: {\"id\":\"cmpl-%lld\",\"object\":\"text_completion\",\"created\":0,"
                      "\"model\":\"truth\",\"choices\":[],\"usage\":{\"prompt_tokens\":%lld,"
                      "\"total_tokens\":%lld,\"completion_tokens\":%d}}\n\n",
                      (long long)connection->request, (long long)connection->prompt_tokens,
                      (long long)connection->prompt_tokens + connection->count, connection->count);
    size = framed(buffer, sizeof buffer, event, length);
    size += framed(buffer + size, sizeof buffer - size, "data: [DONE]\n\n", 14);
    memcpy(buffer + size, "0\r\n\r\n", 5);
    connection->request = -1;
    if (send_all(descriptor, buffer, size + 5) == 0 && connection->closes) close_connection(descriptor);
}

static const char *value_of(const char *body, const char *key) {
    const char *found = strstr(body, key);
    if (!found) return NULL;
    found += strlen(key);
    return found + strspn(found, " :");
}

static void complete(int descriptor, const char *body, int64_t read_ns, int64_t kernel_ns) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    Connection *connection = &connections[descriptor];
    const char *wanted = value_of(body, "\"max_tokens\""), *stream = value_of(body, "\"stream\"");
    const char *marker = NULL, *next = body;
    int count = wanted ? atoi(wanted) : 16;
    int64_t prompt_tokens = strlen(body) / 4 + 1;
    while ((next = strstr(next, "[request "))) marker = next, next++;
    if (!stream || *stream != 't' || !marker) {
        char answer[512];
        int is_stream = stream && *stream == 't';
        const char *choice = "{\"index\":0,\"text\":\" w\",\"logprobs\":null,\"finish_reason\":\"length\","
                             "\"stop_reason\":null,\"token_ids\":[1000]}";
        int length = snprintf(answer, sizeof answer,
                              "%s{\"id\":\"cmpl-0\",\"object\":\"text_completion\",\"created\":0,"
                              "\"model\":\"truth\",\"choices\":[%s],\"usage\":{\"prompt_tokens\":%lld,"
                              "\"total_tokens\":%lld,\"completion_tokens\":1}}%s",
                              is_stream ? "data: " : "", choice, (long long)prompt_tokens,
                              (long long)prompt_tokens + 1, is_stream ? "\n\ndata: [DONE]\n\n" : "");
        reply(descriptor, 200, is_stream ? "text/event-stream" : "application/json", answer, length);
        return;
    }
    requests = with_room(requests, request_count, &request_room, sizeof *requests);
    int64_t number = atoll(marker + 9);
    requests[request_count] = (Request){number, read_ns, kernel_ns};
    connection->request = request_count++;
    connection->count = count < 1 ? 1 : count < most_chunks ? count : most_chunks;
    connection->sent = 0;
    connection->prompt_tokens = prompt_tokens;
    connection->random = seed * 0x2545f4914f6cdd1dULL + (uint64_t)number;
    connection->due_ns = read_ns + lognormal_ns(&connection->random, first_median_ms, first_sigma);
    if (send_all(descriptor, head, sizeof head - 1) == 0)
        heap_push((Due){connection->due_ns, descriptor, connection->life});
}

static void give_log(int descriptor) {
    int64_t counts[2] = {request_count, chunk_count};
    size_t first = sizeof counts, second = request_count * sizeof *requests,
           third = chunk_count * sizeof *chunks;
    char *body = malloc(first + second + third);
    if (!body) fail("malloc");
    memcpy(body, counts, first);
    if (second) memcpy(body + first, requests, second);
    if (third) memcpy(body + first + second, chunks, third);
    request_count = chunk_count = 0;
    /* A log is larger than a socket's buffer. Nothing is measured now: wait for the client. */
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK);
    connections[descriptor].closes = 1;
    reply(descriptor, 200, "application/octet-stream", body, first + second + third);
    free(body);
}

static void serve(int descriptor, const char *head, const char *body, int64_t read_ns, int64_t kernel_ns) {
    static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"truth\",\"object\":\"model\","
                                 "\"owned_by\":\"vllm\",\"root\":\"truth\",\"max_model_len\":1048576}]}";
    static const char tokens[] = "{\"count\":3,\"max_model_len\":1048576,\"tokens\":[1,2,3]}";
    static const char version[] = "{\"version\":\"0.32.0\"}";
    connections[descriptor].closes = strcasestr(head, "connection: close") != NULL;
    if (!strncmp(head, "POST /v1/completions", 20))
        complete(descriptor, body, read_ns, kernel_ns);
    else if (!strncmp(head, "GET /log", 8))
        give_log(descriptor);
    else if (!strncmp(head, "GET /v1/models", 14))
        reply(descriptor, 200, "application/json", models, sizeof models - 1);
    else if (!strncmp(head, "POST /tokenize", 14))
        reply(descriptor, 200, "application/json", tokens, sizeof tokens - 1);
    else if (!strncmp(head, "GET /version", 12))
        reply(descriptor, 200, "application/json", version, sizeof version - 1);
    else if (!strncmp(head, "GET /health", 11))
        reply(descriptor, 200, "application/json", "", 0);
    else
        reply(descriptor, 404, "application/json", "{}", 2);
}

/* Take a whole request off the buffer, if there is one. */
static void take_request(int descriptor, int64_t read_ns, int64_t kernel_ns) {
    Connection *connection = &connections[descriptor];
    char *end = connection->length ? memmem(connection->input, connection->length, "\r\n\r\n", 4) : NULL;
    if (!end) return;
    *end = 0;
    const char *length_line = strcasestr(connection->input, "content-length:");
    size_t body_length = length_line ? strtoull(length_line + 15, NULL, 10) : 0;
    size_t whole = end + 4 - connection->input + body_length;
    if (connection->length < whole) {
        *end = '\r';
        return;
    }
    connection->input[whole] = 0;
    connection->length = 0; /* nobody pipelines */
    serve(descriptor, connection->input, end + 4, read_ns, kernel_ns);
}

static void read_some(int descriptor) {
    Connection *connection = &connections[descriptor];
    if (connection->capacity - connection->length < 65537) {
        connection->capacity = connection->length + 131072;
        connection->input = realloc(connection->input, connection->capacity);
        if (!connection->input) fail("realloc");
    }
    char control[128];
    struct iovec part = {connection->input + connection->length, 65536};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t count = recvmsg(descriptor, &message, 0);
    int64_t now = clock_ns(CLOCK_MONOTONIC), kernel = 0;
    if (count <= 0) {
        if (count < 0 && errno == EAGAIN) return;
        close_connection(descriptor);
        return;
    }
    for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each))
        if (each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(each), sizeof stamp);
            kernel = stamp.tv_sec * 1000000000LL + stamp.tv_nsec + now - clock_ns(CLOCK_REALTIME);
        }
    connection->length += count;
    take_request(descriptor, now, kernel);
}

static void watch(int descriptor) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event)) fail("epoll_ctl");
}

static void accept_all(int listener) {
    int one = 1, descriptor;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (descriptor >= MAX_CONNECTIONS) {
            fprintf(stderr, "more than %d connections\n", MAX_CONNECTIONS);
            exit(1);
        }
        Connection *connection = &connections[descriptor];
        connection->is_open = 1;
        connection->length = 0;
        connection->request = -1;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(descriptor);
    }
}

static int listen_anywhere(void) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (listener < 0) fail("socket");
    setsockopt(listener, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one); /* connections inherit it */
    if (bind(listener, (struct sockaddr *)&address, length)) fail("bind");
    if (listen(listener, 4096)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void send_what_is_due(int timer) {
    while (heap_size && heap[0].due_ns <= clock_ns(CLOCK_MONOTONIC)) {
        Due due = heap_pop();
        if (connections[due.descriptor].life == due.life) send_chunk(due.descriptor);
    }
    struct itimerspec when = {0};
    if (heap_size) {
        when.it_value.tv_sec = heap[0].due_ns / 1000000000LL;
        when.it_value.tv_nsec = heap[0].due_ns % 1000000000LL;
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int main(int count, char **arguments) {
    if (count != 7) {
        fprintf(stderr, "usage: server SEED FIRST_MEDIAN_MS FIRST_SIGMA GAP_MEDIAN_MS GAP_SIGMA CHUNKS\n");
        return 2;
    }
    seed = strtoull(arguments[1], NULL, 10);
    first_median_ms = atof(arguments[2]), first_sigma = atof(arguments[3]);
    gap_median_ms = atof(arguments[4]), gap_sigma = atof(arguments[5]);
    most_chunks = atoi(arguments[6]);
    signal(SIGPIPE, SIG_IGN);
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("epoll_create1");
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), listener = listen_anywhere();
    watch(timer);
    watch(listener);
    watch(STDIN_FILENO);
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int ready = epoll_wait(poller, events, MAX_EVENTS, -1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int index = 0; index < ready; index++) {
            int descriptor = events[index].data.fd;
            uint64_t expirations;
            if (descriptor == STDIN_FILENO)
                return 0;
            else if (descriptor == listener)
                accept_all(listener);
            else if (descriptor == timer)
                (void)!read(timer, &expirations, sizeof expirations);
            else if (connections[descriptor].is_open)
                read_some(descriptor);
        }
        send_what_is_due(timer);
    }
}
