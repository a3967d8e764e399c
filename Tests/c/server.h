/*
 * server.h - an HTTP/1.1 server on loopback for the tests, on raw sockets: it shares no code with the library and does
 * wrong on demand. The path says what it does:
 *
 *   /echo            the request's body, its method in x-method, its header "x-test" in x-seen
 *   /size/N          N bytes, with content-length        /chunked/N   the same in chunks of 1000, with a trailer
 *   /close/N         N bytes, ended by the close         /status/N    an empty answer with that status
 *   /delay/MS        "late", after that time             /never       reads the request, never answers
 *   /stall/N         N bytes of 1,000,000, then silence  /trickle/MS  a byte every MS for ever
 *   /noread          stops reading after the head        /truncated   50 bytes of 100, then closes
 *   /badchunk        half a chunk, then closes           /garbage     not HTTP
 *   /readclose       reads the whole request, closes     /readreset   the same with SO_LINGER 0
 *   /said/N          what server_say() said: N bytes in a chunk, the rest in another; N -1: a chunk for each byte
 *   /late/MS         the same, with a pause after its first line
 *   /plan            the next answer of server_plan()    /sum/MS      reads with pauses, answers "size sum" of the body
 *   /early/N         answers before it reads the body; with N from 300 on it never reads it
 *   /planned         the same, but the first connection of all has the first answer, and so on
 *   /tail/MS         the request's body, after that time; every 33rd request waits ten times as long
 */
#ifndef LLMPOOL_TEST_SERVER_H
#define LLMPOOL_TEST_SERVER_H

#include <stddef.h>
#include <stdint.h>

typedef struct server server_t;

server_t *server_start(void);
/* Ends every connection and thread. */
void server_stop(server_t *server);
/* "http://127.0.0.1:port/path"; one of a few static buffers of the calling thread. */
const char *server_url(const server_t *server, const char *path);
/* What /said answers; the memory stays the caller's, and nobody may be asking meanwhile. */
void server_say(server_t *server, const char *headers, const void *bytes, size_t size);
/* What /plan answers, one after the other: "429 Too Many\nretry-after: 1" (its body is "busy", or what follows an empty
 * line), "~300 200 Late" after so many milliseconds, "^200 OK" or "^~300 200 Late" once a second request for /planned
 * is there, or "" to close without an answer. A NULL ends the list; after it the answer is 200 with "ok". */
void server_plan(server_t *server, const char *const *answers);
/* An answer of the plan is left: a request that was to get it may still come, in the next test. */
int server_is_planned(server_t *server);
/* The sum of a body that begins with 0 and goes on with each piece. */
uint64_t server_sum(uint64_t sum, const void *bytes, size_t size);
int server_port(const server_t *server);

int server_connections_accepted(server_t *server);
int server_connections_open(server_t *server);
int server_connections_open_max(server_t *server);
int server_requests(server_t *server);
/* How many requests arrived whose body contains the text. */
int server_bodies_with(server_t *server, const char *text);

#endif
