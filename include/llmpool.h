/*
 * llmpool.h - one HTTP connection pool per process, made for calls to LLM APIs.
 *
 * Three nouns: a pool (limits, timeouts, connections), a request (submitted once,
 * finished exactly once) and a queue (where a request's events arrive).
 *
 * Threads   Every function may be called from any thread. The library never calls back
 *           into the application. A function marked [fast] never blocks and is never
 *           slower than a copy of its input. No call is a cancellation point
 *           (pthread_cancel): one that waits goes on waiting.
 * Input     Copied before the call returns; the caller keeps its memory.
 * Output    What an event points to is the caller's until llmpool_events_release(), even
 *           if its queue or pool is closed meanwhile.
 * Structs   Those that begin with their size grow only at the end. A known smaller size
 *           works for ever: fields beyond it keep their value or default. A larger one
 *           whose unknown tail is not zero is E_UNSUPPORTED. In a request a zero field
 *           means "as the pool has it". Arrays of events are walked by event_size: below
 *           the first release's size it is E_INVALID_ARGUMENT, beyond the library's the
 *           tail is zeroed.
 * Errors    A negative llmpool_status_t; llmpool_last_error() says more. An HTTP 4xx or
 *           5xx answer is a result, not an error.
 * Memory    Where malloc refuses what a caller's or a server's size asks for, that request
 *           ends with E_OUT_OF_MEMORY; small allocations, up to 256 KiB, end the process.
 * Closing   A closed handle stays valid for the life of the process as a small tombstone:
 *           every call on it answers E_CLOSED, a blocked drain wakes with it.
 * Fork      In a child the handle from llmpool_shared() means the child's own shared pool,
 *           with the options last configured. Every other handle of the parent answers
 *           E_FORKED there; closing and releasing do nothing and succeed. fork() waits
 *           until every other thread is between two calls, or waits within one.
 * Exit      What runs at exit after the library's own handler, which comes with its first
 *           call (exit handlers registered before, static destructors), finds it closed:
 *           closing and releasing do nothing and succeed, every other call answers
 *           E_CLOSED, and so does one that waits in another thread.
 */
#ifndef LLMPOOL_H
#define LLMPOOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LLMPOOL_VERSION_MAJOR 0
#define LLMPOOL_VERSION_MINOR 1
#define LLMPOOL_VERSION_PATCH 0

/* The one table of errors: X(name, value, message). Values are never reused. */
#define LLMPOOL_STATUS_MAP(X)                                                  \
  X(OK, 0, "success")                                                          \
  /* the call itself */                                                        \
  X(E_INVALID_ARGUMENT, -1, "invalid argument")                                \
  X(E_UNSUPPORTED, -2, "not supported by this version of the library")         \
  X(E_OUT_OF_MEMORY, -3, "out of memory or file descriptors")                  \
  X(E_CLOSED, -4, "the pool or queue is closed")                               \
  X(E_FORKED, -5, "the handle belongs to the parent process")                  \
  X(E_NOT_FOUND, -6, "no such request, or it has already finished")            \
  X(E_AGAIN, -7, "not now; an event says when")                                \
  /* before a connection was given */                                          \
  X(E_QUEUE_FULL, -20, "too many requests are waiting for a connection")       \
  X(E_POOL_TIMEOUT, -21, "no connection became free in time")                  \
  X(E_CANCELLED, -22, "cancelled by the application")                          \
  X(E_BUDGET, -23, "the request costs more than its budget ever allows")       \
  X(E_BUDGET_TIMEOUT, -24, "the budget did not have room for it in time")      \
  /* time */                                                                   \
  X(E_CONNECT_TIMEOUT, -30, "connecting took too long")                        \
  X(E_WRITE_TIMEOUT, -31, "the server stopped taking the request")             \
  X(E_FIRST_BYTE_TIMEOUT, -32, "the server did not begin to answer in time")   \
  X(E_READ_TIMEOUT, -33, "the server fell silent")                             \
  X(E_TOTAL_TIMEOUT, -34, "the request took longer than its total time")       \
  X(E_EVENT_TIMEOUT, -35, "the stream is alive, but no event came")            \
  /* network and peer */                                                       \
  X(E_RESOLVE, -40, "the host name could not be resolved")                     \
  X(E_CONNECT, -41, "connection refused or unreachable")                       \
  X(E_PROXY, -42, "the proxy refused or failed")                               \
  X(E_TLS, -43, "TLS handshake failed")                                        \
  X(E_TLS_VERIFY, -44, "the server's certificate was not accepted")            \
  X(E_WRITE, -45, "connection lost while sending")                             \
  X(E_READ, -46, "connection lost before the answer was complete")             \
  X(E_PROTOCOL, -47, "the server broke the HTTP protocol")                     \
  X(E_TOO_LARGE, -48, "the answer is larger than the limit")                   \
  X(E_REFUSED, -49, "the server refused the stream before reading it")         \
  X(E_INTERNAL, -90, "a bug in llmpool")

typedef int32_t llmpool_status_t;
enum {
#define X(name, value, message) LLMPOOL_##name = value,
  LLMPOOL_STATUS_MAP(X)
#undef X
};

/* A pool: limits, timeouts, connections. */
typedef struct llmpool llmpool_t;
/* A queue, where the events of requests arrive. */
typedef struct llmpool_queue llmpool_queue_t;

/* Tells the version of the library that runs: major << 16 | minor << 8 | patch. LLMPOOL_VERSION_MAJOR, _MINOR and
 * _PATCH are that of the header. */
uint32_t llmpool_version(void);
/* Gives the name of a status, "LLMPOOL_E_TLS". Static; never NULL. */
const char *llmpool_status_name(llmpool_status_t status);
/* Says what a status means, for people. Static; never NULL. */
const char *llmpool_status_message(llmpool_status_t status);
/* Says what was wrong with this thread's last failed call, for people: names the field.
 * Valid until this thread's next failed call; never NULL; never holds a secret. */
const char *llmpool_last_error(void);

/* ---- options ------------------------------------------------------------ */

enum { /* llmpool_options_t.http_versions, llmpool_event_t.http_version */
  LLMPOOL_HTTP_AUTO = 0, /* https: what ALPN picks of h2 and http/1.1; http: HTTP/1.1. In events: no answer came */
  LLMPOOL_HTTP_1_1 = 1,
  LLMPOOL_HTTP_2 = 2, /* https: h2 or fail; http: h2 with prior knowledge */
  LLMPOOL_HTTP_1_0 = 3 /* only in events */
};

/* What a pool is opened and configured with. */
typedef struct llmpool_options {
  size_t size; /* set by llmpool_options_init(); options that it did not fill in are E_INVALID_ARGUMENT */

  /* Limits; 0 means no limit. Default in brackets. */
  uint32_t max_connections;            /* [100] open connections, in use and idle */
  uint32_t max_connections_per_origin; /* [0] of them to one scheme, host and port */
  uint32_t max_keepalive_connections;  /* [20] idle connections kept open */
  uint32_t keepalive_expiry_ms;        /* [30000] how long an idle one is kept */
  uint32_t max_connection_age_ms;      /* [0] retired after this, +-10 % at random */
  uint32_t max_streams_per_connection; /* [100] HTTP/2: also bounded by the server */
  uint32_t max_pending_requests;       /* [10000] waiting for a connection, or for their budget */

  /* Timeouts; 0 means none. */
  uint32_t connect_timeout_ms;    /* [5000] of a dial: name, TCP, proxy and TLS together */
  uint32_t read_timeout_ms;       /* [60000] longest silence while bytes of the answer are awaited */
  uint32_t write_timeout_ms;      /* [10000] longest time no byte of the request could be sent */
  uint32_t pool_timeout_ms;       /* [10000] longest wait for a connection */
  uint32_t first_byte_timeout_ms; /* [0] from sent to the first byte; 0: read_timeout_ms runs there too */
  uint32_t total_timeout_ms;      /* [0] from submission to the last byte */

  /* Connections */
  uint32_t http_versions;       /* [LLMPOOL_HTTP_AUTO] those that may be spoken */
  uint32_t dns_cache_ttl_ms;    /* [300000] how long an address that was looked up is used; 0: once */
  uint32_t tcp_keepalive_ms;    /* [15000] first probe on a silent connection; 0: never */
  uint32_t ping_interval_ms;    /* [30000] HTTP/2 PING on a silent connection; 0: never */
  uint32_t stream_window_bytes; /* [1048576] of one answer held here uncredited; 65536 to 2147483647. As many bytes
                                   again may be held for the events that are not released, 400 or so each: what comes in
                                   pieces of a few bytes holds its server back for them */

  /* Retries */
  uint32_t max_retries;          /* [2] times that it is sent again; what provably nobody acted on does not count */
  uint32_t retry_backoff_ms;     /* [500] doubled each time, with jitter */
  uint32_t retry_backoff_max_ms; /* [8000] at most */
  uint32_t retry_after_max_ms;   /* [60000] what is longer ends the request, with the answer in hand; 0: nothing is */

  /* Warnings, and trust */
  uint32_t utilization_warning_percent; /* [80] of max_connections, up to 100; 0: never */
  uint32_t tls_insecure;                /* [0] 1 accepts any certificate */

  /* NULL: the system's default. Copied; files are read when the pool is opened or configured, the system's CA store
   * with the first https origin. */
  const char *ca_file;          /* PEM */
  const char *client_cert_file; /* PEM chain */
  const char *client_key_file;  /* PEM */
  const char *proxy;            /* http://, socks5://, socks5h://; "": none; NULL: http_proxy, https_proxy, all_proxy */
  const char *no_proxy;         /* NULL: no_proxy */
  uint64_t filled;              /* the mark of llmpool_options_init() */

  /* Streams of events */
  uint32_t max_event_bytes; /* [16777216] of the lines of one server-sent event; 1024 to 1073741824. A larger one ends
                               the request with E_TOO_LARGE */
  uint32_t event_timeout_ms; /* [0] 0: none. Of an answer that is an unencoded text/event-stream, with
                                whatever flags it was asked for, the longest time from its head to the first event
                                that says something, and from one to the next. Comments, and events whose type is in
                                quiet_events, do not count, while every byte restarts read_timeout_ms. It stands while
                                the application holds the stream's window. Of another answer it does not run:
                                see llmpool_stats_t.unwatched_streams */

  /* NULL: none. Each adds to ca_file; where any of the three is given the system's store is not used. */
  const char *ca_path; /* a directory as "openssl rehash" makes it, read as certificates are verified */
  const char *ca_pem;  /* certificates themselves, as a PEM file has them */

  /* Streams of events, and budgets */
  const char *quiet_events; /* types of events that say nothing, separated by commas; "": none;
                               NULL: "ping,keepalive" */
  uint32_t budget_timeout_ms; /* [60000] 0: none. Longest wait of a request for its budget, before it waits
                                 for a connection, while which pool_timeout_ms does not run. After half of it the
                                 request comes before every priority */

  /* The breaker of each origin. After breaker_failures failures in a row that brought no HTTP answer (a dial, unless
   * another connection is open; TLS; a connection lost before the head; one of the timeouts above, and not a shorter
   * one of the request's) calls to that origin end at once with the status of the last of them, UNSEEN, and are not
   * retried; so do those that wait. A connection that can be made again, or an answer that is not listed, closes it:
   * where no connection could be made the pool dials itself, one dial at a time and at most a second apart, as long as
   * somebody has called within the last 60 s; else one call at a time goes out as a probe. */
  uint32_t breaker_failures;    /* [0] 0 to 1000; 0: there is none */
  const char *breaker_statuses; /* answers that count as failures too, 500 to 599, separated by commas; NULL: none.
                                   Calls that end for one have E_REFUSED */

  /* Hedging */
  uint32_t hedge_percent;     /* [5] so many second attempts at most for a hundred requests with hedge_after_ms, and ten
                                 before there are any; 0: none, up to 100 */
  uint32_t reserved;          /* [0] */
} llmpool_options_t;

/* Fills in the defaults of the running library. */
llmpool_status_t llmpool_options_init(llmpool_options_t *options, size_t size);
/* Reads the options that a pool has now; its strings are borrowed until it is next configured. */
llmpool_status_t llmpool_options_get(llmpool_t *pool, llmpool_options_t *options_out, size_t size);

/* ---- pool ---------------------------------------------------------------- */

/* Gives the pool of this process, made on first use and never closed. Borrowed. */
llmpool_status_t llmpool_shared(llmpool_t **pool_out);
/* Opens a pool of one's own. Owned: end it with llmpool_close(). NULL: the defaults. */
llmpool_status_t llmpool_open(const llmpool_options_t *options, llmpool_t **pool_out);
/* Changes the options of a pool in use, the shared one too: limits, timeouts and retries
 * from now on; whatever shapes a connection, for new connections, while the old ones
 * retire. Start from llmpool_options_get() to leave the rest as it is. */
llmpool_status_t llmpool_configure(llmpool_t *pool, const llmpool_options_t *options);
/* Closes a pool. It takes no more requests, waits up to drain_ms for those it has, ends the rest
 * with E_CLOSED; their DONE events stay drainable. When it returns no thread of the pool is
 * left, except one stuck in the system's resolver or in reading the CA store, which ends
 * by itself. Not for the shared pool: E_INVALID_ARGUMENT. */
llmpool_status_t llmpool_close(llmpool_t *pool, uint32_t drain_ms);
/* [fast] Opens connections to the URL's origin ahead of need, as the limits allow. */
llmpool_status_t llmpool_warm(llmpool_t *pool, const char *url, uint32_t connections);

/* ---- request -------------------------------------------------------------- */

enum { /* llmpool_request_t.flags; an unknown one is E_UNSUPPORTED */
  LLMPOOL_REQUEST_STREAM = 1 << 0,       /* HEAD and DATA events before DONE */
  LLMPOOL_REQUEST_SSE = 1 << 1,          /* HEAD and SSE events before DONE, where the answer is a 200 with an
                                            unencoded text/event-stream (HTML standard, 9.2.3); else as STREAM */
  LLMPOOL_REQUEST_RETRY_STATUS = 1 << 2, /* retry 408, 409, 429 and 5xx, minding Retry-After */
  LLMPOOL_REQUEST_RETRY_SENT = 1 << 3,   /* retry even where the server may have begun to act */
  LLMPOOL_REQUEST_NO_RETRY = 1 << 4,     /* not even where the server provably saw nothing */
  LLMPOOL_REQUEST_UPLOAD = 1 << 5,       /* the body follows in pieces, by llmpool_write() */
  LLMPOOL_REQUEST_MANUAL_CREDIT = 1 << 6, /* only llmpool_credit() opens the window, release does not */
  LLMPOOL_REQUEST_SSE_JOIN = 1 << 7,      /* with SSE, where many tokens come at once: events of type "message" without
                                             id and retry of their own that arrive together are one: data has theirs,
                                             separated by CR, which is in none; sse_count says how many */
  LLMPOOL_REQUEST_NO_REDIAL = 1 << 8,     /* a connection that cannot be made ends it with E_CONNECT at once, without
                                             the retries that max_retries allows, and without waiting for the pause of
                                             up to 1 s that follows a dial which failed */
  LLMPOOL_REQUEST_COST_ESTIMATED = 1 << 9 /* input_cost and output_cost are guesses: what they say is more than a limit
                                             of the budget goes alone, when all of that is there, and not E_BUDGET */
};

#define LLMPOOL_NO_TIMEOUT UINT32_MAX /* in a request: none, whatever the pool has */

/* What is to be sent, and what holds for it. */
typedef struct llmpool_request {
  size_t size; /* sizeof(llmpool_request_t) */
  uint32_t flags;
  int32_t priority;    /* higher goes first among those waiting; 0 is normal */
  uint64_t user_data;  /* handed back in every event */
  const char *method;  /* NULL: POST with a body, else GET */
  const char *url;
  size_t url_size;     /* 0: url ends with a NUL */
  const char *headers; /* "name: value\r\n" lines, the last line's end may lack; a CR, LF or NUL
                          elsewhere is E_INVALID_ARGUMENT */
  size_t headers_size;
  const void *body;
  size_t body_size;
  size_t max_response_bytes; /* of a body that is collected; 0: 64 MiB. A larger one, announced or come, is
                                E_TOO_LARGE */
  uint32_t connect_timeout_ms;
  uint32_t read_timeout_ms;
  uint32_t write_timeout_ms;
  uint32_t pool_timeout_ms;
  uint32_t first_byte_timeout_ms;
  uint32_t total_timeout_ms;
  const char *server_name; /* for TLS, where it is not the URL's host: a name made of labels as in a URL; NULL */
  uint32_t max_retries;    /* how often it is tried again, for whatever reason; 0: as the pool's option says */
  uint32_t retry_after_max_ms; /* a longer Retry-After ends the request with the answer in hand, with RETRY_STATUS;
                                  0: as the pool's option says; LLMPOOL_NO_TIMEOUT: any */
  size_t max_event_bytes;  /* of a server-sent event, within the same range; 0: as the pool has it */
  uint32_t event_timeout_ms;
  uint32_t budget_timeout_ms;
  const char *budget;   /* the name of its budget, 1 to 200 bytes without control characters; NULL: none */
  uint64_t input_cost;  /* tokens that it is taken to cost until it is settled: llmpool_budget_settle() */
  uint64_t output_cost;
  uint32_t hedge_after_ms; /* Hedging: where no byte of the answer has come so long after an attempt was given its
                              connection, a second attempt goes out, once, and the first that answers with anything
                              but what RETRY_STATUS retries is the one; the other is given up, and MAY BE BILLED all
                              the same. On another connection where one is idle or may be opened, else on another
                              stream; left out where it would wait, for a connection or its budget, or where
                              llmpool_options_t.hedge_percent is used up. 0 or LLMPOOL_NO_TIMEOUT: never. Only with
                              RETRY_SENT, without NO_RETRY and UPLOAD: else E_INVALID_ARGUMENT */
  uint32_t reserved;       /* 0 */
} llmpool_request_t;

/* When what happened to a request. */
typedef struct llmpool_timings {
  size_t size;
  /* Microseconds since submission, at least 1; 0: did not happen. */
  uint64_t admitted;  /* a connection, or a stream on one, was given; like all below to the last attempt */
  uint64_t resolved;  /* of the connection, where this request waited for a new one */
  uint64_t connected;
  uint64_t secured;
  uint64_t sent;       /* last byte of the request */
  uint64_t first_byte; /* first byte of the answer */
  uint64_t first_data; /* first byte of its body; with SSE, the first event: time to first token */
  uint64_t done;
  uint64_t budgeted; /* its budget had room for it */
} llmpool_timings_t;

enum { /* llmpool_event_t.kind */
  LLMPOOL_EVENT_HEAD = 1,    /* http_status, headers */
  LLMPOOL_EVENT_DATA = 2,    /* data, at most 64 KiB */
  LLMPOOL_EVENT_SSE = 3,     /* data, sse_*; at most max_event_bytes, else the request ends with E_TOO_LARGE */
  LLMPOOL_EVENT_DONE = 4,    /* status, timings; without STREAM or SSE also http_status, headers, data */
  LLMPOOL_EVENT_NOTICE = 5,  /* from llmpool_watch(): notice, headers, message */
  LLMPOOL_EVENT_WRITABLE = 6 /* UPLOAD: llmpool_write() takes more */
};
enum {                            /* llmpool_event_t.flags */
  LLMPOOL_EVENT_REUSED = 1 << 0,  /* an open connection carried it */
  LLMPOOL_EVENT_UNSEEN = 1 << 1,  /* DONE, failed: the server provably acted on nothing */
  LLMPOOL_EVENT_ID_RESET = 1 << 2 /* SSE, of a record: the last event id is empty from here on */
};
enum { /* llmpool_event_t.notice, and the mask of llmpool_watch() */
  LLMPOOL_NOTICE_UTILIZATION_HIGH = 1 << 0,
  LLMPOOL_NOTICE_UTILIZATION_NORMAL = 1 << 1,
  LLMPOOL_NOTICE_CONNECTION_OPENED = 1 << 2,
  LLMPOOL_NOTICE_CONNECTION_CLOSED = 1 << 3,
  LLMPOOL_NOTICE_RETRY = 1 << 4, /* a request will be tried again: origin, reason, delay-ms, request, attempt (the one
                                    that failed, from 1; 0: a dial did), request-id */
  LLMPOOL_NOTICE_UNWATCHED_STREAM = 1 << 5, /* llmpool_stats_t.unwatched_streams has grown: origin, reason (encoded,
                                               no-event-stream); once for an origin and reason */
  LLMPOOL_NOTICE_BUDGET_STOPPED = 1 << 6, /* an answer of 429, 503 or 529 asks to be left alone: budget, status,
                                             delay-ms, waiting, request, request-id */
  LLMPOOL_NOTICE_BUDGET_RESUMED = 1 << 7, /* that time is over: budget */
  LLMPOOL_NOTICE_BREAKER_OPENED = 1 << 8, /* breaker_failures was reached: origin, reason, failures */
  LLMPOOL_NOTICE_BREAKER_CLOSED = 1 << 9, /* the origin is called again: origin, open-ms */
  LLMPOOL_NOTICE_HEDGE = 1 << 10,         /* a second attempt went out: origin, after-ms, request */
  LLMPOOL_NOTICE_LEASE_WANTED = 1 << 11   /* llmpool_budget_demand() has something to ask for: budget, as people see it;
                                             the event's data is its true name */
};

/* Something that happened to a request, or to a pool; a queue gives it. */
typedef struct llmpool_event {
  uint64_t request_id;
  uint64_t user_data;
  uint32_t kind;
  uint32_t flags;
  llmpool_status_t status;
  uint32_t http_status;
  uint32_t http_version;
  uint32_t attempts;
  uint32_t credit;  /* DATA, SSE: bytes of the window that it stands for */
  uint32_t notice;
  const char *data; /* followed by a NUL that data_size does not count */
  size_t data_size;
  const char *headers; /* "name: value\r\n" lines, names as received; NOTICE: origin, reason, used, limit,
                          waiting, longest-wait-ms ... as far as they apply. "request" is the request_id, which the
                          event has, too, with the attempt's connection_id and timings (done: of the notice);
                          "request-id" is the provider's (x-request-id, request-id), where its answer had one */
  size_t headers_size;
  const char *sse_event; /* "message" where the server named none */
  size_t sse_event_size;
  const char *sse_id; /* last event id so far; one of more than 4,096 bytes is passed over, as one with a NUL is */
  size_t sse_id_size;
  uint32_t sse_retry_ms; /* of this event; UINT32_MAX: none */
  uint32_t sse_count;    /* SSE: 1; more with SSE_JOIN */
  const char *reason;  /* HEAD, DONE: the reason phrase of HTTP/1; "" */
  const char *message; /* DONE that failed, NOTICE: for people */
  const char *peer;    /* HEAD, DONE: "192.0.2.1:443" */
  uint64_t connection_id;
  const llmpool_timings_t *timings; /* HEAD (so far), DONE, and a NOTICE of a request; else NULL */
  void *opaque;                     /* the library's; llmpool_events_release() makes it NULL */
} llmpool_event_t;

/* [fast] Submits a request, whose events llmpool_queue_drain() takes. On OK exactly one DONE event for *id_out, the
 * last of them, reaches the queue whatever happens; otherwise none does. *id_out is written before any event can be
 * drained; ids are unique in the process. */
llmpool_status_t llmpool_submit(llmpool_t *pool, const llmpool_request_t *request, llmpool_queue_t *queue,
                                uint64_t *id_out);
/* Runs one request and blocks until it is done. On OK *done_out is its DONE event, whose own
 * status says how it ended; release it. id_out, if not NULL, is written before the wait, so
 * that another thread can cancel. The answer is collected: STREAM, SSE and UPLOAD are
 * E_INVALID_ARGUMENT here. */
llmpool_status_t llmpool_perform(llmpool_t *pool, const llmpool_request_t *request, llmpool_event_t *done_out,
                                 size_t event_size, uint64_t *id_out);
/* [fast] Adds a piece to the body of an UPLOAD request; last != 0 ends it. E_AGAIN, and
 * nothing taken, while 1 MiB waits to be sent: a WRITABLE event says when to go on. Once a
 * piece was sent the request is not tried again. The write clock stands while nothing waits. */
llmpool_status_t llmpool_write(llmpool_t *pool, uint64_t request_id, const void *data, size_t size, int32_t last);
/* [fast] Asks a request to end early. Its DONE event still comes; its connection or stream
 * is free again once it has. */
llmpool_status_t llmpool_cancel(llmpool_t *pool, uint64_t request_id);
/* [fast] Opens the window of a MANUAL_CREDIT request: its server may send so many bytes more of the answer. */
llmpool_status_t llmpool_credit(llmpool_t *pool, uint64_t request_id, uint64_t bytes);

/* ---- completion queue ------------------------------------------------------ */

enum {                         /* llmpool_queue_options_t.flags; an unknown one is E_UNSUPPORTED */
  LLMPOOL_QUEUE_DRIVE = 1 << 0 /* For a queue of one thread that submits a request, waits for it here and then makes
                                  the next, as llmpool_perform() does. It gains nothing where requests overlap,
                                  where many threads drain the queue, or one looks at it now and then. While a
                                  request is the only one of the pool its thread does the pool's work, when it
                                  submits and when it drains or reads, also without waiting, which spares two
                                  switches between threads. The descriptor is then readable for such work, too, so
                                  that a drain may give no event. */
};

/* What a queue is opened with. */
typedef struct llmpool_queue_options {
  size_t size;
  uint32_t coalesce_us; /* [0] while several requests are in flight at most one wake in this time; the first after
                           a quiet spell comes at once. What is submitted while 16 or more of the events that were
                           drained last are unanswered may be sent later, by an eighth of this time or a sixteenth
                           of stream_coalesce_us, whichever is more, at most 200 us */
  uint32_t flags;       /* [0] */
  uint32_t stream_coalesce_us; /* [0: as coalesce_us] the same where nothing but DATA and SSE events has come, fewer
                                  than 16: many streams bring many tokens, and a token may wait longer than an
                                  answer. While they wait what comes may be as late as half of this time */
  uint32_t reserved;
} llmpool_queue_options_t;

/* Opens a queue, in which events arrive. NULL: the defaults. Owned: end it with llmpool_queue_close(). */
llmpool_status_t llmpool_queue_open(const llmpool_queue_options_t *options, llmpool_queue_t **queue_out);
/* Gives a descriptor that is readable while the queue holds an event (with coalesce_us: for whose
 * wake it is time), for epoll, poll and event loops. Borrowed: only wait on it. Negative: a
 * status. */
int llmpool_queue_fd(llmpool_queue_t *queue);
/* Takes events from a queue: up to capacity, in the order of arrival. Waits up to timeout_ms for
 * the first (0: not at all, and [fast]; negative: for ever). Returns how many, or a status < 0.
 * A signal handled on the waiting thread ends the wait with 0. */
int32_t llmpool_queue_drain(llmpool_queue_t *queue, llmpool_event_t *events, size_t event_size, uint32_t capacity,
                            int32_t timeout_ms);
/* [fast] Gives events back, in any order, also after their DONE. Releasing a DATA or SSE event
 * also lets the server send that much more: what is not released holds that one answer
 * back, and no other. Bytes that yield no event (comments, a part of an event, a body that
 * is collected) are credited by the library. */
void llmpool_events_release(llmpool_event_t *events, size_t event_size, uint32_t count);

/* An event as a flat record, for bindings: what it carries lies one part after the other in
 * the caller's bytes, in the order of the fields; each *_end is an offset into them. */
typedef struct llmpool_record {
  uint64_t user_data;
  uint32_t kind;
  uint32_t flags;
  llmpool_status_t status;
  uint32_t http_status;
  uint32_t http_version;
  uint32_t attempts;
  uint32_t credit;
  uint32_t notice;
  uint32_t begin;
  uint32_t data_end;
  uint32_t headers_end;
  uint32_t sse_event_end; /* empty for "message" */
  uint32_t sse_id_end;    /* empty where it is as in the request's last record, or, with ID_RESET, empty */
  uint32_t text_end;      /* reason and peer, or message, each ended by a NUL */
  uint32_t timings_end;   /* as the event has timings: nine uint64_t, aligned; as in llmpool_timings_t */
  uint32_t sse_retry_ms;
  uint64_t connection_id;
  uint32_t sse_count;
  uint32_t reserved;
} llmpool_record_t;

/* [fast] Takes events as records, copied: nothing to release, the memory is free again at once.
 * Meant for MANUAL_CREDIT; without it the copy also credits. Returns how many, or a status
 * < 0. Stops before an event that does not fit into the bytes left; where the first alone
 * does not, the result is E_TOO_LARGE, and the first record says what it is, without its parts,
 * and as timings_end how many bytes it wants: read again with so many, or, at UINT32_MAX, drain
 * it with llmpool_queue_drain(). The event stays in the queue. */
int32_t llmpool_queue_read(llmpool_queue_t *queue, llmpool_record_t *records, size_t record_size, uint32_t capacity,
                           char *bytes, size_t bytes_size);
/* Closes a queue. Cancels what still belongs to it, drops what was not drained; returns at once. */
llmpool_status_t llmpool_queue_close(llmpool_queue_t *queue);

/* [fast] Gives the value of a header of an event, names compared without regard to case; NULL where
 * there is none. Borrowed from the event; not NUL-terminated: *size_out bytes. */
const char *llmpool_event_header(const llmpool_event_t *event, const char *name, size_t *size_out);

/* ---- budgets ------------------------------------------------------------------ */

/* A budget is a name under which requests share what a provider allows. A request that names one waits until it has
 * room, by priority, then age, and then for a connection. The limits of a budget are configured, told by the headers
 * of the answers (x-ratelimit-*, anthropic-ratelimit-*), or both: all hold at once. Each is a bucket that is debited
 * when a request is sent, again at each retry, and filled evenly with time. A name needs no configuring: a budget that
 * was only named learns; of more than 1,000 such those that were idle longest are forgotten.
 * A name that ends with " #" and hexadecimal digits is that of a credential, for which the digits stand: in metrics,
 * notices and messages there is instead a number, "provider/model/1", the first that is free.
 *
 * An answer of 429, 503 or 529 with a Retry-After stops the whole budget for that time (RFC 9110, section 10.2.3), and
 * afterwards it goes on at the pace of its limits; with "x-should-retry: false" it stops nothing. Where such answers
 * tell no limit the number of requests without an answer adapts: halved, then one more for each round of answers. Who
 * certainly waits longer than its budget or total timeout ends at once with E_BUDGET_TIMEOUT, UNSEEN. */

enum { /* llmpool_limit_t.unit */
  LLMPOOL_UNIT_REQUESTS = 0,
  LLMPOOL_UNIT_TOKENS = 1, /* input and output together */
  LLMPOOL_UNIT_INPUT = 2,  /* tokens */
  LLMPOOL_UNIT_OUTPUT = 3  /* tokens */
};

/* So much of something in a window of time. */
typedef struct llmpool_limit {
  uint32_t unit;
  uint32_t told;      /* from llmpool_budget_get(): 1, an answer told it; such are passed over by _configure() */
  uint64_t amount;    /* 1 to 2^40 */
  uint64_t window_ms; /* in which so much comes back, evenly; 1 to 2^40 */
  int64_t remaining;  /* from llmpool_budget_get(): what could be spent now; below 0 where more was */
  uint64_t full_ms;   /* from llmpool_budget_get(): until all is there */
  int64_t spent;      /* from llmpool_budget_get(): of a shared budget, since it is shared, less what came back */
} llmpool_limit_t;

/* What a budget is configured with, and how it stands. */
typedef struct llmpool_budget {
  size_t size; /* sizeof(llmpool_budget_t) */
  uint32_t max_concurrent; /* requests from their admission to their DONE; 0: no limit */
  uint32_t burst_ms;       /* what a limit gives in so long may be spent at once after a pause; 0: in its window */
  uint32_t no_learning;    /* 1: what answers tell is not minded */
  uint32_t reserved;       /* [0] */
  /* from llmpool_budget_get(): */
  uint64_t in_flight;  /* admitted, and not over */
  uint64_t waiting;
  uint64_t refusals;   /* answers of 429, 503 and 529 */
  uint64_t stopped_ms; /* until it goes on; 0: it is not stopped */
  uint64_t adaptive;   /* requests that may be without an answer at a time; 0: any number */
  /* of a shared one, from llmpool_budget_get(): */
  uint32_t shared;   /* 1: llmpool_budget_share() */
  uint32_t leased;   /* 1: it spends from a lease; 0: its safe share */
  uint64_t members;  /* as the last grant said; 0: none has */
  uint64_t lease_ms; /* until the lease ends */
  uint64_t places;   /* requests that may be in flight here; UINT64_MAX: any number */
  uint64_t lapses;   /* how often the safe share has taken the place of a lease, as no grant came in time */
} llmpool_budget_t;

/* Sets the limits of a budget, at most six (they are walked by limit_size), and the rest that is said of it; what was
 * spent stays spent. Kept across a fork, for the shared pool. */
llmpool_status_t llmpool_budget_configure(llmpool_t *pool, const char *name, const llmpool_budget_t *budget,
                                          const llmpool_limit_t *limits, size_t limit_size, uint32_t count);
/* Reads what a budget has now: the budget, and of its limits at most capacity; *count_out says how many there are. The
 * pool knows no such budget: E_NOT_FOUND. */
llmpool_status_t llmpool_budget_get(llmpool_t *pool, const char *name, llmpool_budget_t *budget_out,
                                    llmpool_limit_t *limits_out, size_t limit_size, uint32_t capacity,
                                    uint32_t *count_out);
/* Lists the names of the budgets that the pool knows, a line each, as llmpool_origins() does it. */
int64_t llmpool_budgets(llmpool_t *pool, char *text_out, size_t size);
/* [fast] Says what a request really took, before or after its DONE, once: the difference to its costs is given back, or
 * taken, where the answer did not tell what was left. Of requests that are over the last 4,096 can be settled; others,
 * and those without a budget, are passed over. A request that nobody settles keeps what it was taken to cost. */
llmpool_status_t llmpool_budget_settle(llmpool_t *pool, uint64_t request_id, uint64_t input, uint64_t output);

/* ---- budgets that several processes share ------------------------------------- */

/* A provider's limits hold for an organisation. The processes that share them, on one machine or many, are the members
 * of a fleet, and a store that all of them reach lends each a part for a while, a lease: so much of each limit, so
 * many places, valid for so long. A member spends what it holds without asking anybody, asks for more before it runs
 * out, and gives back what it does not need. Where no lease holds, as the store does not answer, it spends its safe
 * share of each limit, which comes back evenly: one of as many parts as there were members by the last grant.
 *
 * The library decides what to ask for and what may be spent; who carries the question to a store and its answer back is
 * a connector. One for Redis comes with the Python package (llmpool.fleet). Another is a thread with a queue:
 *   1. llmpool_watch() for LLMPOOL_NOTICE_LEASE_WANTED, and llmpool_budget_share();
 *   2. for each notice: llmpool_budget_demand() of the budget that its data names;
 *   3. ask the store, which adds up what members hold and want, and lends what is free;
 *   4. write valid_ms, members, places and stopped_ms into the lease, amount and granted into its limits, and give both
 *      to llmpool_budget_grant(). Where the store does not answer do nothing: a lease is wanted again a second later.
 * A notice comes at most 4 times a second and budget. Who waits for a grant waits as for the budget; once a demand is
 * 50 ms old without a grant the safe share may be spent as well. */

/* How a budget is shared. */
typedef struct llmpool_share {
  size_t size;       /* sizeof(llmpool_share_t) */
  double safe_share; /* above 0, at most 1: the part of each limit that may be spent here where no lease holds, until a
                        grant has said how many members there are */
  uint32_t no_store; /* 1: nobody grants; the safe share is all that there is */
  uint32_t reserved; /* [0] */
} llmpool_share_t;

/* Shares a budget with other processes. name NULL: all budgets, known and to come. share NULL: the budget is this
 * pool's alone again. What was left of it is gone. Kept across a fork, for the shared pool: the child is a member of
 * its own, without a lease. */
llmpool_status_t llmpool_budget_share(llmpool_t *pool, const char *name, const llmpool_share_t *share);

/* A limit in the question to the store, and in its answer. */
typedef struct llmpool_lease_limit {
  uint32_t unit; /* LLMPOOL_UNIT_* */
  uint32_t told; /* 0: configured; else which of those that answers tell: 1 requests, 2 tokens, 3 input, 4 output, 5
                    tokens of a project. Of a told one window_ms is learned, and moves: do not know it by that */
  uint64_t amount;      /* the whole limit, as it is known here. Of a grant: as it is to hold here, where another member
                           knows less; 0: as it is */
  uint64_t window_ms;
  uint64_t capacity;    /* of it, what may be spent at once */
  int64_t held;         /* what is left of what was lent; below 0 where more was spent */
  int64_t spent;        /* since it is shared, in all, less what came back */
  uint64_t wanted_high; /* what the requests that wait cost, for which what is held is there first: those of a priority
                           above 0, or that have waited for half of their timeout; */
  uint64_t wanted;      /* of priority 0; */
  uint64_t wanted_low;  /* below */
  uint64_t least;       /* what the first of them costs: less than that is of no use */
  uint64_t expected;    /* beyond what they cost, what will probably be wanted soon */
  int64_t remaining;    /* what would be left of it, of all members' together, by what an answer has told since the last
                           demand, had nobody spent since its request was sent, 30 s ago at most; INT64_MIN: none has */
  uint64_t granted;     /* of a grant: so much more than is held may be spent; at most 2^40 */
} llmpool_lease_limit_t;

/* The question to the store, and its answer. */
typedef struct llmpool_lease {
  size_t size;             /* sizeof(llmpool_lease_t) */
  uint64_t sequence;       /* of the demand: its grant has the same */
  uint64_t in_flight;      /* requests from their admission to their DONE */
  uint64_t waiting;
  uint64_t max_concurrent; /* of all members together; UINT64_MAX: any number */
  uint64_t stopped_ms;     /* an answer has asked to be left alone for so long. Of a grant: some member was asked */
  uint64_t members;        /* as the last grant said; 0: none has. Of a grant: how many there are, with this one */
  uint64_t places;         /* of a grant: requests that may be in flight here; UINT64_MAX: any number */
  uint32_t valid_ms;       /* of a grant: from the demand on, 1 to 600000 */
  uint32_t reserved;       /* [0] */
} llmpool_lease_t;

/* Takes the question to the store of a shared budget: what it is to be asked for. Grants of earlier demands of the
 * budget count no more. Of its limits at most capacity are given (up to 11); *count_out says how many there are.
 * E_NOT_FOUND: the pool knows no such budget, it is not shared, or with no_store. */
llmpool_status_t llmpool_budget_demand(llmpool_t *pool, const char *name, llmpool_lease_t *lease_out,
                                       llmpool_lease_limit_t *limits_out, size_t limit_size, uint32_t capacity,
                                       uint32_t *count_out);
/* Gives a shared budget what the store has granted. One that comes twice, too late, or after another demand is passed
 * over. */
llmpool_status_t llmpool_budget_grant(llmpool_t *pool, const char *name, const llmpool_lease_t *lease,
                                      const llmpool_lease_limit_t *limits, size_t limit_size, uint32_t count);

/* ---- looking at a pool ------------------------------------------------------ */

/* The counters of a pool, or of one origin. */
typedef struct llmpool_stats {
  size_t size;
  /* requests: submitted == pending + active + backing_off + succeeded + failed + cancelled */
  uint64_t submitted;
  uint64_t succeeded;
  uint64_t failed;
  uint64_t cancelled;
  uint64_t retries;
  uint64_t pending;     /* waiting for a connection, or for their budget */
  uint64_t active;      /* on a connection */
  uint64_t backing_off; /* waiting to be tried again */
  /* connections: opened == connecting + in_use + idle + closed */
  uint64_t connecting;
  uint64_t in_use;
  uint64_t idle;
  uint64_t opened;
  uint64_t closed;
  uint64_t reused; /* requests that an already open connection carried */
  uint64_t connect_failures;
  uint64_t dns_lookups;
  uint64_t dns_cache_hits;
  uint64_t tls_handshakes;
  uint64_t tls_resumptions;
  /* bytes on the sockets, below TLS: with its handshakes and records; without what a proxy is told to connect */
  uint64_t bytes_sent;
  uint64_t bytes_received;

  double utilization; /* (connecting + in_use) / max_connections; 0 where there is no limit */
  uint64_t unwatched_streams; /* STREAM or SSE answers of 200 for which an event timeout did not run: their body is
                                 encoded, or no text/event-stream; of STREAM not those of application/json */
  uint64_t awaiting_budget; /* of those pending: waiting for their budget */
  uint64_t breakers_open;      /* origins whose breaker is open */
  uint64_t breaker_rejections; /* of those failed: ended by an open breaker */
  uint64_t hedges;     /* second attempts, sent as the first was silent: hedge_after_ms */
  uint64_t hedges_won; /* of them those whose answer was taken */
} llmpool_stats_t;

/* [fast] Reads the counters of a pool (origin NULL), or of one "scheme://host:port": a consistent
 * snapshot as of the engine's last turn. Set stats_out->size before. */
llmpool_status_t llmpool_stats(llmpool_t *pool, const char *origin, llmpool_stats_t *stats_out);
#define LLMPOOL_HISTOGRAM_BUCKETS 240

/* How long things took, as histograms: counts in buckets that are at most an eighth of their values wide, in
 * microseconds, up to an hour and more. Of these durations, in this order; more may follow:
 *   pool_wait    from submission, or from when its budget had room for it, to a request's first connection
 *   budget_wait  from submission until its budget had room for the request
 *   connect      from the addresses of a name to a connection, through its proxy if it has one
 *   tls          a TLS handshake that succeeded
 *   first_byte   from submission to the first byte of the answer that counted; when the request is over
 *   first_token  from submission to the first server-sent event (LLMPOOL_REQUEST_SSE)
 *   event_gap    between two of them, as they reach the queue; 0 where they come together
 *   total        from submission to the end, however it ended: as many as succeeded, failed and cancelled */
typedef struct llmpool_histogram {
  const char *name; /* "pool_wait"; lives as long as the library */
  uint64_t count;   /* of all values: the sum of the buckets */
  uint64_t sum_us;
  uint64_t max_us; /* the largest value; 0: there is none */
  uint64_t buckets[LLMPOOL_HISTOGRAM_BUCKETS]; /* values below llmpool_histogram_end() of the same index, and not below
                                                  that of the one before; in the last also what is beyond */
} llmpool_histogram_t;

/* Reads the histograms of a pool (origin NULL), with those of the origins that it has forgotten, or of one
 * "scheme://host:port", all as of one turn of the engine's. At most capacity of them are written, histogram_size bytes
 * apart; *count_out (may be NULL) says how many there are: 8. They begin at 0 when the pool is opened, and
 * only grow. */
llmpool_status_t llmpool_histograms(llmpool_t *pool, const char *origin, llmpool_histogram_t *histograms_out,
                                    size_t histogram_size, uint32_t capacity, uint32_t *count_out);
/* [fast] Says where a bucket of every histogram ends, in microseconds; 0 where there is no such bucket. */
uint64_t llmpool_histogram_end(uint32_t bucket);
/* [fast] Says what so many percent of the values, 0 to 100, are not larger than, in microseconds: not below the true
 * value, at most 12.5 % above it. 0 where there are none, or for NULL. */
uint64_t llmpool_histogram_percentile(const llmpool_histogram_t *histogram, double percent);
/* [fast] Adds the values of another histogram, as of another origin, pool or process. */
llmpool_status_t llmpool_histogram_merge(llmpool_histogram_t *histogram, const llmpool_histogram_t *other);
enum {                         /* llmpool_reason_t.kind */
  LLMPOOL_REASON_CLOSED = 1,   /* connections: llmpool_stats_t.closed, by why */
  LLMPOOL_REASON_FAILED = 2,   /* requests: failed */
  LLMPOOL_REASON_RETRIED = 3   /* attempts after the first: retries */
};

/* How often something had one reason. */
typedef struct llmpool_reason {
  const char *name; /* as the notices have it: "closed-by-peer", "read-timeout", "status 503"; lives as long as the
                       library */
  uint64_t count;
  uint32_t kind;
  uint32_t has_series; /* 1: in llmpool_metrics() it is told apart; 0: it is among the "other" of its kind */
} llmpool_reason_t;

/* Reads how often what was counted had which reason: of one origin, or (NULL) of the pool, with the origins that it has
 * forgotten. The reasons of a kind add up to the count that it names. At most capacity of them are written, reason_size
 * bytes apart, those that did not occur too; *count_out (may be NULL) says how many there are: their number and order
 * are the library's, 70 or so. */
llmpool_status_t llmpool_reasons(llmpool_t *pool, const char *origin, llmpool_reason_t *reasons_out,
                                 size_t reason_size, uint32_t capacity, uint32_t *count_out);

enum { /* llmpool_inflight_t.phase */
  LLMPOOL_PHASE_BUDGET = 1,      /* waits for its budget */
  LLMPOOL_PHASE_POOL = 2,        /* waits for a connection, or for a place for a new one */
  LLMPOOL_PHASE_CONNECTING = 3,  /* waits for a connection that is being made */
  LLMPOOL_PHASE_SENDING = 4,     /* bytes of it are still to be sent */
  LLMPOOL_PHASE_WAITING = 5,     /* sent, and nothing of the answer has come */
  LLMPOOL_PHASE_RECEIVING = 6,   /* its answer comes */
  LLMPOOL_PHASE_BACKING_OFF = 7, /* waits to be tried again */
  LLMPOOL_PHASE_HANDING_OVER = 8 /* its whole answer is here, the rest of which waits for events to be released */
};
#define LLMPOOL_ORIGIN_SIZE 272

/* A request that is not over. */
typedef struct llmpool_inflight {
  uint64_t request_id;
  uint64_t user_data;
  uint64_t age_us;         /* since its submission */
  uint64_t bytes_sent;     /* of its body, in the attempt that runs or ran last */
  uint64_t bytes_received; /* of the answer's body in that attempt, encoded as it came */
  uint32_t phase;
  uint32_t attempts;       /* so far */
  char origin[LLMPOOL_ORIGIN_SIZE]; /* "scheme://host:port", ended by a NUL; the end of a longer one is missing */
} llmpool_inflight_t;

/* Lists the requests that are not over, the oldest first: at most capacity of them, inflight_size bytes apart;
 * *count_out (may be NULL) says how many there are. As of the engine's last turn, so that one submitted just now may be
 * missing. The engine waits while they are looked at, for less than a microsecond each. */
llmpool_status_t llmpool_requests(llmpool_t *pool, llmpool_inflight_t *inflight_out, size_t inflight_size,
                                  uint32_t capacity, uint32_t *count_out);
/* Lists the origins that the pool knows, a line each. Returns the length of the whole text, of which at most size - 1
 * bytes and a NUL were written, or a status < 0. */
int64_t llmpool_origins(llmpool_t *pool, char *text_out, size_t size);
/* In what the metrics are written. */
enum {
  LLMPOOL_METRICS_PROMETHEUS = 1, /* "text/plain; version=0.0.4; charset=utf-8" */
  LLMPOOL_METRICS_OPENMETRICS = 2 /* "application/openmetrics-text; version=1.0.0; charset=utf-8" */
};
/* Writes metrics: everything about the pool's origins and budgets, with the histograms in a few buckets, in one of
 * these formats. Origins beyond 200, and budgets beyond 64, are one, "other". Returns as llmpool_origins() does. */
int64_t llmpool_metrics(llmpool_t *pool, uint32_t format, char *text_out, size_t size);
/* Has a queue told what happens in a pool: NOTICE events, with this user_data, until either is closed;
 * notices is a mask, 0 ends it. A queue that nobody drains loses the oldest, beyond 1,024, but none of
 * LEASE_WANTED, of which at most one waits for a budget. */
llmpool_status_t llmpool_watch(llmpool_t *pool, llmpool_queue_t *queue, uint32_t notices, uint64_t user_data);
/* Shows the pool to whoever looks in, as `python -m llmpool top` does: while the process has a pool to show it has one
 * Unix stream socket in this directory, "<pid>.sock", which gives each who connects one JSON document
 * (docs/monitoring.md) and the end of the stream. Nothing is read; only the same user and root are served, at most 4
 * at a time, 2 s each. Counts and names, no header, body or query. The directory is made (mode 0700) if it is not
 * there; one that belongs to another user, that others may write to, or that is a link, is E_INVALID_ARGUMENT, like a
 * second one, and any where /proc is not mounted. directory NULL: shows it no more. A forked child shows its shared
 * pool on a socket of its own, once it uses it. With LLMPOOL_STATS_DIR in the environment every pool is shown there
 * from its beginning, where it can be. */
llmpool_status_t llmpool_serve_stats(llmpool_t *pool, const char *directory);

#ifdef __cplusplus
}
#endif
#endif /* LLMPOOL_H */
