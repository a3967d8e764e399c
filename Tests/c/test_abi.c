/*
 * test_abi.c - what a program compiled against this header relies on for ever: sizes and offsets on a 64-bit machine,
 * the values of the errors, the version. A change here is a change that breaks programs.
 */
#include "check.h"
#include "llmpool.h"

#include <stddef.h>

#define SIZE(type, expected) CHECK_EQ(sizeof(type), expected)
#define OFFSET(type, field, expected) CHECK_EQ(offsetof(type, field), expected)

static void test_options_layout(void) {
  SIZE(llmpool_options_t, 208);
  OFFSET(llmpool_options_t, size, 0);
  OFFSET(llmpool_options_t, max_connections, 8);
  OFFSET(llmpool_options_t, max_connections_per_origin, 12);
  OFFSET(llmpool_options_t, max_keepalive_connections, 16);
  OFFSET(llmpool_options_t, keepalive_expiry_ms, 20);
  OFFSET(llmpool_options_t, max_connection_age_ms, 24);
  OFFSET(llmpool_options_t, max_streams_per_connection, 28);
  OFFSET(llmpool_options_t, max_pending_requests, 32);
  OFFSET(llmpool_options_t, connect_timeout_ms, 36);
  OFFSET(llmpool_options_t, read_timeout_ms, 40);
  OFFSET(llmpool_options_t, write_timeout_ms, 44);
  OFFSET(llmpool_options_t, pool_timeout_ms, 48);
  OFFSET(llmpool_options_t, first_byte_timeout_ms, 52);
  OFFSET(llmpool_options_t, total_timeout_ms, 56);
  OFFSET(llmpool_options_t, http_versions, 60);
  OFFSET(llmpool_options_t, dns_cache_ttl_ms, 64);
  OFFSET(llmpool_options_t, tcp_keepalive_ms, 68);
  OFFSET(llmpool_options_t, ping_interval_ms, 72);
  OFFSET(llmpool_options_t, stream_window_bytes, 76);
  OFFSET(llmpool_options_t, max_retries, 80);
  OFFSET(llmpool_options_t, retry_backoff_ms, 84);
  OFFSET(llmpool_options_t, retry_backoff_max_ms, 88);
  OFFSET(llmpool_options_t, retry_after_max_ms, 92);
  OFFSET(llmpool_options_t, utilization_warning_percent, 96);
  OFFSET(llmpool_options_t, tls_insecure, 100);
  OFFSET(llmpool_options_t, ca_file, 104);
  OFFSET(llmpool_options_t, client_cert_file, 112);
  OFFSET(llmpool_options_t, client_key_file, 120);
  OFFSET(llmpool_options_t, proxy, 128);
  OFFSET(llmpool_options_t, no_proxy, 136);
  OFFSET(llmpool_options_t, filled, 144);
  OFFSET(llmpool_options_t, max_event_bytes, 152);
  OFFSET(llmpool_options_t, event_timeout_ms, 156);
  OFFSET(llmpool_options_t, ca_path, 160);
  OFFSET(llmpool_options_t, ca_pem, 168);
  OFFSET(llmpool_options_t, quiet_events, 176);
  OFFSET(llmpool_options_t, budget_timeout_ms, 184);
  OFFSET(llmpool_options_t, breaker_failures, 188);
  OFFSET(llmpool_options_t, breaker_statuses, 192);
  OFFSET(llmpool_options_t, hedge_percent, 200);
}

static void test_request_layout(void) {
  SIZE(llmpool_request_t, 176);
  OFFSET(llmpool_request_t, size, 0);
  OFFSET(llmpool_request_t, flags, 8);
  OFFSET(llmpool_request_t, priority, 12);
  OFFSET(llmpool_request_t, user_data, 16);
  OFFSET(llmpool_request_t, method, 24);
  OFFSET(llmpool_request_t, url, 32);
  OFFSET(llmpool_request_t, url_size, 40);
  OFFSET(llmpool_request_t, headers, 48);
  OFFSET(llmpool_request_t, headers_size, 56);
  OFFSET(llmpool_request_t, body, 64);
  OFFSET(llmpool_request_t, body_size, 72);
  OFFSET(llmpool_request_t, max_response_bytes, 80);
  OFFSET(llmpool_request_t, connect_timeout_ms, 88);
  OFFSET(llmpool_request_t, read_timeout_ms, 92);
  OFFSET(llmpool_request_t, write_timeout_ms, 96);
  OFFSET(llmpool_request_t, pool_timeout_ms, 100);
  OFFSET(llmpool_request_t, first_byte_timeout_ms, 104);
  OFFSET(llmpool_request_t, total_timeout_ms, 108);
  OFFSET(llmpool_request_t, server_name, 112);
  OFFSET(llmpool_request_t, max_retries, 120);
  OFFSET(llmpool_request_t, retry_after_max_ms, 124);
  OFFSET(llmpool_request_t, max_event_bytes, 128);
  OFFSET(llmpool_request_t, event_timeout_ms, 136);
  OFFSET(llmpool_request_t, budget_timeout_ms, 140);
  OFFSET(llmpool_request_t, budget, 144);
  OFFSET(llmpool_request_t, input_cost, 152);
  OFFSET(llmpool_request_t, output_cost, 160);
  OFFSET(llmpool_request_t, hedge_after_ms, 168);
}

static void test_timings_layout(void) {
  SIZE(llmpool_timings_t, 80);
  OFFSET(llmpool_timings_t, size, 0);
  OFFSET(llmpool_timings_t, admitted, 8);
  OFFSET(llmpool_timings_t, resolved, 16);
  OFFSET(llmpool_timings_t, connected, 24);
  OFFSET(llmpool_timings_t, secured, 32);
  OFFSET(llmpool_timings_t, sent, 40);
  OFFSET(llmpool_timings_t, first_byte, 48);
  OFFSET(llmpool_timings_t, first_data, 56);
  OFFSET(llmpool_timings_t, done, 64);
  OFFSET(llmpool_timings_t, budgeted, 72);
}

static void test_event_layout(void) {
  SIZE(llmpool_event_t, 168);
  OFFSET(llmpool_event_t, request_id, 0);
  OFFSET(llmpool_event_t, user_data, 8);
  OFFSET(llmpool_event_t, kind, 16);
  OFFSET(llmpool_event_t, flags, 20);
  OFFSET(llmpool_event_t, status, 24);
  OFFSET(llmpool_event_t, http_status, 28);
  OFFSET(llmpool_event_t, http_version, 32);
  OFFSET(llmpool_event_t, attempts, 36);
  OFFSET(llmpool_event_t, credit, 40);
  OFFSET(llmpool_event_t, notice, 44);
  OFFSET(llmpool_event_t, data, 48);
  OFFSET(llmpool_event_t, data_size, 56);
  OFFSET(llmpool_event_t, headers, 64);
  OFFSET(llmpool_event_t, headers_size, 72);
  OFFSET(llmpool_event_t, sse_event, 80);
  OFFSET(llmpool_event_t, sse_event_size, 88);
  OFFSET(llmpool_event_t, sse_id, 96);
  OFFSET(llmpool_event_t, sse_id_size, 104);
  OFFSET(llmpool_event_t, sse_retry_ms, 112);
  OFFSET(llmpool_event_t, sse_count, 116);
  OFFSET(llmpool_event_t, reason, 120);
  OFFSET(llmpool_event_t, message, 128);
  OFFSET(llmpool_event_t, peer, 136);
  OFFSET(llmpool_event_t, connection_id, 144);
  OFFSET(llmpool_event_t, timings, 152);
  OFFSET(llmpool_event_t, opaque, 160);
}

static void test_queue_options_layout(void) {
  SIZE(llmpool_queue_options_t, 24);
  OFFSET(llmpool_queue_options_t, size, 0);
  OFFSET(llmpool_queue_options_t, coalesce_us, 8);
  OFFSET(llmpool_queue_options_t, flags, 12);
  OFFSET(llmpool_queue_options_t, stream_coalesce_us, 16);
}

static void test_record_layout(void) {
  SIZE(llmpool_record_t, 88);
  OFFSET(llmpool_record_t, user_data, 0);
  OFFSET(llmpool_record_t, kind, 8);
  OFFSET(llmpool_record_t, flags, 12);
  OFFSET(llmpool_record_t, status, 16);
  OFFSET(llmpool_record_t, http_status, 20);
  OFFSET(llmpool_record_t, http_version, 24);
  OFFSET(llmpool_record_t, attempts, 28);
  OFFSET(llmpool_record_t, credit, 32);
  OFFSET(llmpool_record_t, notice, 36);
  OFFSET(llmpool_record_t, begin, 40);
  OFFSET(llmpool_record_t, data_end, 44);
  OFFSET(llmpool_record_t, headers_end, 48);
  OFFSET(llmpool_record_t, sse_event_end, 52);
  OFFSET(llmpool_record_t, sse_id_end, 56);
  OFFSET(llmpool_record_t, text_end, 60);
  OFFSET(llmpool_record_t, timings_end, 64);
  OFFSET(llmpool_record_t, sse_retry_ms, 68);
  OFFSET(llmpool_record_t, connection_id, 72);
  OFFSET(llmpool_record_t, sse_count, 80);
}

static void test_budget_layout(void) {
  SIZE(llmpool_limit_t, 48);
  OFFSET(llmpool_limit_t, unit, 0);
  OFFSET(llmpool_limit_t, told, 4);
  OFFSET(llmpool_limit_t, amount, 8);
  OFFSET(llmpool_limit_t, window_ms, 16);
  OFFSET(llmpool_limit_t, remaining, 24);
  OFFSET(llmpool_limit_t, full_ms, 32);
  OFFSET(llmpool_limit_t, spent, 40);
  SIZE(llmpool_budget_t, 104);
  OFFSET(llmpool_budget_t, size, 0);
  OFFSET(llmpool_budget_t, max_concurrent, 8);
  OFFSET(llmpool_budget_t, burst_ms, 12);
  OFFSET(llmpool_budget_t, no_learning, 16);
  OFFSET(llmpool_budget_t, in_flight, 24);
  OFFSET(llmpool_budget_t, waiting, 32);
  OFFSET(llmpool_budget_t, refusals, 40);
  OFFSET(llmpool_budget_t, stopped_ms, 48);
  OFFSET(llmpool_budget_t, adaptive, 56);
  OFFSET(llmpool_budget_t, shared, 64);
  OFFSET(llmpool_budget_t, leased, 68);
  OFFSET(llmpool_budget_t, members, 72);
  OFFSET(llmpool_budget_t, lease_ms, 80);
  OFFSET(llmpool_budget_t, places, 88);
  OFFSET(llmpool_budget_t, lapses, 96);
  SIZE(llmpool_share_t, 24);
  OFFSET(llmpool_share_t, safe_share, 8);
  OFFSET(llmpool_share_t, no_store, 16);
  SIZE(llmpool_lease_limit_t, 104);
  OFFSET(llmpool_lease_limit_t, amount, 8);
  OFFSET(llmpool_lease_limit_t, held, 32);
  OFFSET(llmpool_lease_limit_t, spent, 40);
  OFFSET(llmpool_lease_limit_t, wanted_high, 48);
  OFFSET(llmpool_lease_limit_t, least, 72);
  OFFSET(llmpool_lease_limit_t, remaining, 88);
  OFFSET(llmpool_lease_limit_t, granted, 96);
  SIZE(llmpool_lease_t, 72);
  OFFSET(llmpool_lease_t, sequence, 8);
  OFFSET(llmpool_lease_t, max_concurrent, 32);
  OFFSET(llmpool_lease_t, members, 48);
  OFFSET(llmpool_lease_t, places, 56);
  OFFSET(llmpool_lease_t, valid_ms, 64);
  CHECK_EQ(LLMPOOL_UNIT_REQUESTS, 0);
  CHECK_EQ(LLMPOOL_UNIT_TOKENS, 1);
  CHECK_EQ(LLMPOOL_UNIT_INPUT, 2);
  CHECK_EQ(LLMPOOL_UNIT_OUTPUT, 3);
}

static void test_stats_layout(void) {
  SIZE(llmpool_stats_t, 232);
  OFFSET(llmpool_stats_t, size, 0);
  OFFSET(llmpool_stats_t, submitted, 8);
  OFFSET(llmpool_stats_t, succeeded, 16);
  OFFSET(llmpool_stats_t, failed, 24);
  OFFSET(llmpool_stats_t, cancelled, 32);
  OFFSET(llmpool_stats_t, retries, 40);
  OFFSET(llmpool_stats_t, pending, 48);
  OFFSET(llmpool_stats_t, active, 56);
  OFFSET(llmpool_stats_t, backing_off, 64);
  OFFSET(llmpool_stats_t, connecting, 72);
  OFFSET(llmpool_stats_t, in_use, 80);
  OFFSET(llmpool_stats_t, idle, 88);
  OFFSET(llmpool_stats_t, opened, 96);
  OFFSET(llmpool_stats_t, closed, 104);
  OFFSET(llmpool_stats_t, reused, 112);
  OFFSET(llmpool_stats_t, connect_failures, 120);
  OFFSET(llmpool_stats_t, dns_lookups, 128);
  OFFSET(llmpool_stats_t, dns_cache_hits, 136);
  OFFSET(llmpool_stats_t, tls_handshakes, 144);
  OFFSET(llmpool_stats_t, tls_resumptions, 152);
  OFFSET(llmpool_stats_t, bytes_sent, 160);
  OFFSET(llmpool_stats_t, bytes_received, 168);
  OFFSET(llmpool_stats_t, utilization, 176);
  OFFSET(llmpool_stats_t, unwatched_streams, 184);
  OFFSET(llmpool_stats_t, awaiting_budget, 192);
  OFFSET(llmpool_stats_t, breakers_open, 200);
  OFFSET(llmpool_stats_t, breaker_rejections, 208);
  OFFSET(llmpool_stats_t, hedges, 216);
  OFFSET(llmpool_stats_t, hedges_won, 224);
}

static void test_sight_layout(void) {
  SIZE(llmpool_histogram_t, 1952);
  OFFSET(llmpool_histogram_t, name, 0);
  OFFSET(llmpool_histogram_t, count, 8);
  OFFSET(llmpool_histogram_t, sum_us, 16);
  OFFSET(llmpool_histogram_t, max_us, 24);
  OFFSET(llmpool_histogram_t, buckets, 32);
  CHECK_EQ(LLMPOOL_HISTOGRAM_BUCKETS, 240);
  SIZE(llmpool_reason_t, 24);
  OFFSET(llmpool_reason_t, name, 0);
  OFFSET(llmpool_reason_t, count, 8);
  OFFSET(llmpool_reason_t, kind, 16);
  OFFSET(llmpool_reason_t, has_series, 20);
  CHECK_EQ(LLMPOOL_REASON_CLOSED, 1);
  CHECK_EQ(LLMPOOL_REASON_FAILED, 2);
  CHECK_EQ(LLMPOOL_REASON_RETRIED, 3);
  SIZE(llmpool_inflight_t, 320);
  OFFSET(llmpool_inflight_t, request_id, 0);
  OFFSET(llmpool_inflight_t, user_data, 8);
  OFFSET(llmpool_inflight_t, age_us, 16);
  OFFSET(llmpool_inflight_t, bytes_sent, 24);
  OFFSET(llmpool_inflight_t, bytes_received, 32);
  OFFSET(llmpool_inflight_t, phase, 40);
  OFFSET(llmpool_inflight_t, attempts, 44);
  OFFSET(llmpool_inflight_t, origin, 48);
  CHECK_EQ(LLMPOOL_ORIGIN_SIZE, 272);
  CHECK_EQ(LLMPOOL_PHASE_BUDGET, 1);
  CHECK_EQ(LLMPOOL_PHASE_POOL, 2);
  CHECK_EQ(LLMPOOL_PHASE_CONNECTING, 3);
  CHECK_EQ(LLMPOOL_PHASE_SENDING, 4);
  CHECK_EQ(LLMPOOL_PHASE_WAITING, 5);
  CHECK_EQ(LLMPOOL_PHASE_RECEIVING, 6);
  CHECK_EQ(LLMPOOL_PHASE_BACKING_OFF, 7);
  CHECK_EQ(LLMPOOL_PHASE_HANDING_OVER, 8);
}

static void test_status_values(void) {
  CHECK_EQ(LLMPOOL_OK, 0);
  CHECK_EQ(LLMPOOL_E_INVALID_ARGUMENT, -1);
  CHECK_EQ(LLMPOOL_E_UNSUPPORTED, -2);
  CHECK_EQ(LLMPOOL_E_OUT_OF_MEMORY, -3);
  CHECK_EQ(LLMPOOL_E_CLOSED, -4);
  CHECK_EQ(LLMPOOL_E_FORKED, -5);
  CHECK_EQ(LLMPOOL_E_NOT_FOUND, -6);
  CHECK_EQ(LLMPOOL_E_AGAIN, -7);
  CHECK_EQ(LLMPOOL_E_QUEUE_FULL, -20);
  CHECK_EQ(LLMPOOL_E_POOL_TIMEOUT, -21);
  CHECK_EQ(LLMPOOL_E_CANCELLED, -22);
  CHECK_EQ(LLMPOOL_E_BUDGET, -23);
  CHECK_EQ(LLMPOOL_E_BUDGET_TIMEOUT, -24);
  CHECK_EQ(LLMPOOL_E_CONNECT_TIMEOUT, -30);
  CHECK_EQ(LLMPOOL_E_WRITE_TIMEOUT, -31);
  CHECK_EQ(LLMPOOL_E_FIRST_BYTE_TIMEOUT, -32);
  CHECK_EQ(LLMPOOL_E_READ_TIMEOUT, -33);
  CHECK_EQ(LLMPOOL_E_EVENT_TIMEOUT, -35);
  CHECK_EQ(LLMPOOL_E_TOTAL_TIMEOUT, -34);
  CHECK_EQ(LLMPOOL_E_RESOLVE, -40);
  CHECK_EQ(LLMPOOL_E_CONNECT, -41);
  CHECK_EQ(LLMPOOL_E_PROXY, -42);
  CHECK_EQ(LLMPOOL_E_TLS, -43);
  CHECK_EQ(LLMPOOL_E_TLS_VERIFY, -44);
  CHECK_EQ(LLMPOOL_E_WRITE, -45);
  CHECK_EQ(LLMPOOL_E_READ, -46);
  CHECK_EQ(LLMPOOL_E_PROTOCOL, -47);
  CHECK_EQ(LLMPOOL_E_TOO_LARGE, -48);
  CHECK_EQ(LLMPOOL_E_REFUSED, -49);
  CHECK_EQ(LLMPOOL_E_INTERNAL, -90);
}

static void test_status_texts(void) {
#define X(name, value, message)                                                                                        \
  CHECK_STR(llmpool_status_name(value), "LLMPOOL_" #name);                                                             \
  CHECK_STR(llmpool_status_message(value), message);
  LLMPOOL_STATUS_MAP(X)
#undef X
}

static void test_unknown_statuses_have_texts(void) {
  const llmpool_status_t unknown[] = {1, 7, -8, -19, -89, -91, -1000, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
    CHECK(llmpool_status_name(unknown[i]) != NULL && llmpool_status_name(unknown[i])[0] != 0);
    CHECK(llmpool_status_message(unknown[i]) != NULL && llmpool_status_message(unknown[i])[0] != 0);
  }
}

static void test_flags(void) {
  CHECK_EQ(LLMPOOL_REQUEST_STREAM, 1);
  CHECK_EQ(LLMPOOL_REQUEST_SSE, 2);
  CHECK_EQ(LLMPOOL_REQUEST_RETRY_STATUS, 4);
  CHECK_EQ(LLMPOOL_REQUEST_RETRY_SENT, 8);
  CHECK_EQ(LLMPOOL_REQUEST_NO_RETRY, 16);
  CHECK_EQ(LLMPOOL_REQUEST_UPLOAD, 32);
  CHECK_EQ(LLMPOOL_REQUEST_MANUAL_CREDIT, 64);
  CHECK_EQ(LLMPOOL_REQUEST_SSE_JOIN, 128);
  CHECK_EQ(LLMPOOL_REQUEST_NO_REDIAL, 256);
  CHECK_EQ(LLMPOOL_EVENT_DONE, 4);
  CHECK_EQ(LLMPOOL_EVENT_WRITABLE, 6);
  CHECK_EQ(LLMPOOL_NOTICE_RETRY, 16);
  CHECK_EQ(LLMPOOL_NOTICE_UNWATCHED_STREAM, 32);
  CHECK_EQ(LLMPOOL_NOTICE_BUDGET_STOPPED, 64);
  CHECK_EQ(LLMPOOL_NOTICE_BUDGET_RESUMED, 128);
  CHECK_EQ(LLMPOOL_NOTICE_BREAKER_OPENED, 256);
  CHECK_EQ(LLMPOOL_NOTICE_BREAKER_CLOSED, 512);
  CHECK_EQ(LLMPOOL_NOTICE_HEDGE, 1024);
  CHECK_EQ(LLMPOOL_NOTICE_LEASE_WANTED, 2048);
}

static void test_version(void) {
  CHECK_EQ(llmpool_version(), LLMPOOL_VERSION_MAJOR << 16 | LLMPOOL_VERSION_MINOR << 8 | LLMPOOL_VERSION_PATCH);
}

static void test_last_error_is_never_null(void) {
  CHECK(llmpool_last_error() != NULL);
  CHECK(llmpool_open(NULL, NULL) != LLMPOOL_OK);
  CHECK(llmpool_last_error()[0] != 0);
}

int main(void) {
  RUN(test_options_layout);
  RUN(test_request_layout);
  RUN(test_timings_layout);
  RUN(test_event_layout);
  RUN(test_queue_options_layout);
  RUN(test_record_layout);
  RUN(test_stats_layout);
  RUN(test_budget_layout);
  RUN(test_sight_layout);
  RUN(test_status_values);
  RUN(test_status_texts);
  RUN(test_unknown_statuses_have_texts);
  RUN(test_flags);
  RUN(test_version);
  RUN(test_last_error_is_never_null);
  return check_report();
}
