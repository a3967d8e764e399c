/*
 * test_leases.c - budgets that several pools share: what a connector asks for and is told. What a member does when is
 * tested with the core, without a clock of its own.
 */
#include "harness.h"

static server_t *server;

typedef struct {
  llmpool_t *pool;
  llmpool_queue_t *wanted; /* notices */
  llmpool_queue_t *queue;
  llmpool_lease_t lease;
  llmpool_lease_limit_t limits[12];
  uint32_t count;
} member_t;

static member_t join(const char *name, uint32_t no_store) {
  member_t member = {.pool = harness_pool(NULL), .wanted = harness_queue(), .queue = harness_queue()};
  llmpool_budget_t budget = {.size = sizeof budget, .no_learning = 1};
  llmpool_limit_t limit = {.amount = 600, .window_ms = 60000};
  llmpool_share_t share = {.size = sizeof share, .safe_share = 0.25, .no_store = no_store};
  CHECK_OK(llmpool_budget_configure(member.pool, name, &budget, &limit, sizeof limit, 1));
  CHECK_OK(llmpool_watch(member.pool, member.wanted, LLMPOOL_NOTICE_LEASE_WANTED, 7));
  CHECK_OK(llmpool_budget_share(member.pool, name, &share));
  return member;
}

static void leave(member_t *member) {
  CHECK_OK(llmpool_close(member->pool, 0));
  CHECK_OK(llmpool_queue_close(member->wanted));
  CHECK_OK(llmpool_queue_close(member->queue));
}

static llmpool_status_t ask(member_t *member, const char *name) {
  member->lease = (llmpool_lease_t){.size = sizeof member->lease};
  return llmpool_budget_demand(member->pool, name, &member->lease, member->limits, sizeof *member->limits, 12,
                               &member->count);
}

static void grant(member_t *member, const char *name, uint64_t amount, uint32_t valid_ms) {
  member->lease.valid_ms = valid_ms;
  member->lease.members = 2;
  member->lease.places = UINT64_MAX;
  member->limits[0].granted = amount;
  CHECK_OK(llmpool_budget_grant(member->pool, name, &member->lease, member->limits, sizeof *member->limits,
                                member->count));
}

static llmpool_budget_t look(member_t *member, const char *name) {
  llmpool_budget_t budget = {.size = sizeof budget};
  CHECK_OK(llmpool_budget_get(member->pool, name, &budget, NULL, 0, 0, NULL));
  return budget;
}

static void submit(member_t *member, const char *name, int times) {
  llmpool_request_t request = harness_request(server_url(server, "/echo"));
  request.budget = name;
  for (int i = 0; i < times; i++)
    harness_submit(member->pool, &request, member->queue);
}

static int answered(member_t *member) {
  llmpool_event_t events[64];
  int32_t taken = llmpool_queue_drain(member->queue, events, sizeof *events, 64, 0);
  int done = 0;
  for (int32_t i = 0; i < taken; i++)
    done += events[i].kind == LLMPOOL_EVENT_DONE && events[i].status == LLMPOOL_OK;
  if (taken > 0) llmpool_events_release(events, sizeof *events, (uint32_t)taken);
  return done;
}

static void test_what_is_granted_is_spent(void) {
  member_t member = join("openai #00ff", 0);
  llmpool_event_t notice = harness_next(member.wanted);
  CHECK_EQ(notice.kind, LLMPOOL_EVENT_NOTICE);
  CHECK_EQ(notice.notice, LLMPOOL_NOTICE_LEASE_WANTED);
  CHECK_EQ(notice.user_data, 7);
  CHECK_STR(notice.data, "openai #00ff"); /* its true name; people see another */
  CHECK(strstr(notice.headers, "budget: openai/1\r\n") != NULL && strstr(notice.message, "00ff") == NULL);
  harness_release(&notice);

  CHECK_OK(ask(&member, "openai #00ff"));
  CHECK_EQ(member.count, 1);
  CHECK(member.limits[0].amount == 600 && member.limits[0].window_ms == 60000 && !member.limits[0].told);
  CHECK(member.limits[0].held <= 0 && member.limits[0].wanted == 0);
  CHECK_EQ(member.limits[0].remaining, INT64_MIN);
  CHECK_EQ(member.lease.max_concurrent, UINT64_MAX);
  grant(&member, "openai #00ff", 3, 60000);
  CHECK_SOON(look(&member, "openai #00ff").leased == 1);
  llmpool_budget_t budget = look(&member, "openai #00ff");
  CHECK(budget.shared == 1 && budget.members == 2 && budget.lease_ms > 50000 && budget.places == UINT64_MAX);
  grant(&member, "openai #00ff", 3, 60000); /* once more: it is passed over */

  submit(&member, "openai #00ff", 5);
  int done = 0;
  CHECK_SOON((done += answered(&member), done == 3));
  notice = harness_next(member.wanted); /* two wait */
  harness_release(&notice);
  CHECK_OK(ask(&member, "openai #00ff"));
  CHECK(member.limits[0].wanted == 2 && member.limits[0].least == 1 && member.limits[0].spent == 3);
  llmpool_lease_t stale = member.lease;
  CHECK_OK(ask(&member, "openai #00ff"));
  llmpool_lease_t last = member.lease;
  member.lease = stale; /* overtaken by the other question */
  grant(&member, "openai #00ff", 2, 60000);
  member.lease = last;
  grant(&member, "openai #00ff", 1, 60000);
  CHECK_SOON((done += answered(&member), done >= 4));
  leave(&member);
}

static void test_where_no_lease_holds_a_safe_share_is_spent(void) {
  member_t member = join("cut off", 0);
  int64_t asked; /* from when on the lease holds */
  CHECK_SOON((asked = check_now_ms(), ask(&member, "cut off") == LLMPOOL_OK));
  grant(&member, "cut off", 100, 1500);
  CHECK_SOON(look(&member, "cut off").lapses == 1);
  CHECK_EQ(look(&member, "cut off").leased, 0);
  submit(&member, "cut off", 3);
  int done = 0;
  CHECK_SOON((done += answered(&member), done == 3));
  CHECK(check_now_ms() - asked >= 1500 + 400); /* 5 a second, as there were 2 members */
  leave(&member);
}

static void test_without_a_store_nobody_is_asked(void) {
  member_t member = join("alone", 1);
  llmpool_event_t event;
  CHECK_EQ(ask(&member, "alone"), LLMPOOL_E_NOT_FOUND);
  CHECK_EQ(llmpool_queue_drain(member.wanted, &event, sizeof event, 1, 50), 0);
  CHECK_SOON(look(&member, "alone").shared == 1);
  CHECK_OK(llmpool_budget_share(member.pool, "alone", NULL));
  CHECK_SOON(look(&member, "alone").shared == 0);
  submit(&member, "alone", 1);
  int done = 0;
  CHECK_SOON((done += answered(&member), done == 1));
  leave(&member);
}

/* A store as small as one can be: what there is, halved for as long as somebody else may want some. */
typedef struct {
  uint64_t left, members;
} store_t;

static void lend(store_t *store, member_t *member) {
  llmpool_event_t notice;
  while (llmpool_queue_drain(member->wanted, &notice, sizeof notice, 1, 0) == 1) {
    CHECK_OK(ask(member, notice.data));
    llmpool_lease_limit_t *limit = &member->limits[0];
    uint64_t wanted = limit->wanted_high + limit->wanted + limit->wanted_low;
    uint64_t most = (store->left + 1) / 2;
    uint64_t lacking = (int64_t)wanted > limit->held ? wanted - (uint64_t)limit->held : 0;
    limit->granted = lacking < most ? lacking : most;
    store->left -= limit->granted;
    member->lease.valid_ms = 60000;
    member->lease.members = store->members;
    member->lease.places = UINT64_MAX;
    CHECK_OK(llmpool_budget_grant(member->pool, notice.data, &member->lease, limit, sizeof *limit, member->count));
    harness_release(&notice);
  }
}

static void test_two_members_keep_one_limit(void) {
  member_t first = join("both", 0), second = join("both", 0);
  store_t store = {.left = 12, .members = 2};
  submit(&first, "both", 10);
  submit(&second, "both", 10);
  int ours = 0, theirs = 0;
  CHECK_SOON((lend(&store, &first), lend(&store, &second), ours += answered(&first), theirs += answered(&second),
              ours + theirs == 12));
  CHECK(ours > 0 && theirs > 0 && store.left == 0);
  for (int i = 0; i < 60; i++) { /* the store answers and has nothing: nobody spends more */
    lend(&store, &first);
    lend(&store, &second);
    ours += answered(&first);
    theirs += answered(&second);
    check_sleep_ms(5);
  }
  CHECK_EQ(ours + theirs, 12);
  llmpool_limit_t limit;
  llmpool_budget_t budget = {.size = sizeof budget};
  CHECK_OK(llmpool_budget_get(first.pool, "both", &budget, &limit, sizeof limit, 1, NULL));
  CHECK(limit.spent == ours && budget.members == 2 && budget.leased == 1 && budget.lapses == 0);
  leave(&first);
  leave(&second);
}

static void test_what_is_not_needed_is_given_back(void) {
  member_t member = join("idle", 0);
  CHECK_SOON(ask(&member, "idle") == LLMPOOL_OK);
  grant(&member, "idle", 100, 60000);
  llmpool_limit_t limit = {.remaining = 0};
  llmpool_budget_t budget = {.size = sizeof budget};
  CHECK_SOON((llmpool_budget_get(member.pool, "idle", &budget, &limit, sizeof limit, 1, NULL), limit.remaining == 100));
  CHECK_OK(ask(&member, "idle"));
  CHECK(member.limits[0].held == 0 && member.limits[0].spent == 0 && member.lease.members == 2);
  leave(&member);
}

/* Another member knows less, and one was asked to leave the provider alone. */
static void test_what_the_others_know_holds_here(void) {
  member_t member = join("others", 0);
  llmpool_queue_t *stops = harness_queue();
  CHECK_OK(llmpool_watch(member.pool, stops, LLMPOOL_NOTICE_BUDGET_STOPPED, 0));
  CHECK_SOON(ask(&member, "others") == LLMPOOL_OK);
  member.limits[0].amount = 300;
  member.lease.stopped_ms = 60000;
  grant(&member, "others", 3, 60000);
  llmpool_event_t stop = harness_next(stops);
  CHECK(stop.request_id == 0 && strstr(stop.headers, "status: 0\r\n") != NULL);
  CHECK(strstr(stop.message, "an answer to another member asked for it") != NULL);
  harness_release(&stop);
  llmpool_limit_t limit;
  llmpool_budget_t budget = {.size = sizeof budget};
  CHECK_OK(llmpool_budget_get(member.pool, "others", &budget, &limit, sizeof limit, 1, NULL));
  CHECK(limit.amount == 300 && budget.stopped_ms > 50000);
  CHECK_OK(llmpool_queue_close(stops));
  leave(&member);
}

/* A caller with the header of before reads what it knows. */
static void test_limits_of_before(void) {
  enum { BEFORE = offsetof(llmpool_limit_t, spent) };
  member_t member = join("before", 1);
  char limits[2][BEFORE], *last = limits[1];
  memset(limits, 0x55, sizeof limits);
  llmpool_limit_t *walked = (llmpool_limit_t *)(void *)limits;
  llmpool_budget_t budget = {.size = sizeof budget};
  CHECK_OK(llmpool_budget_get(member.pool, "before", &budget, walked, BEFORE, 2, NULL));
  llmpool_limit_t limit = {.spent = 7};
  memcpy(&limit, limits[0], BEFORE);
  CHECK(limit.amount == 600 && limit.spent == 7 && last[0] == 0x55);
  memcpy(limits[1], limits[0], BEFORE);
  CHECK_OK(llmpool_budget_configure(member.pool, "before", &budget, walked, BEFORE, 2));
  CHECK_REFUSED(llmpool_budget_get(member.pool, "before", &budget, walked, BEFORE - 1, 2, NULL),
                LLMPOOL_E_INVALID_ARGUMENT, "limit_size");
  leave(&member);
}

/* More names than are remembered: one that is used again is shared as it was. */
static void test_what_was_forgotten_is_shared_again(void) {
  member_t member = join("known", 1);
  llmpool_share_t share = {.size = sizeof share, .safe_share = 0.5, .no_store = 1};
  CHECK_OK(llmpool_budget_share(member.pool, "forgotten", &share));
  llmpool_budget_t budget = {.size = sizeof budget};
  CHECK_SOON(llmpool_budget_get(member.pool, "forgotten", &budget, NULL, 0, 0, NULL) == LLMPOOL_OK && budget.shared);
  for (int i = 0; i < 1100; i++) {
    char name[16];
    snprintf(name, sizeof name, "name %d", i);
    CHECK_OK(llmpool_budget_share(member.pool, name, NULL));
  }
  CHECK_SOON(llmpool_budget_get(member.pool, "forgotten", &budget, NULL, 0, 0, NULL) == LLMPOOL_E_NOT_FOUND);
  submit(&member, "forgotten", 1);
  int done = 0;
  CHECK_SOON((done += answered(&member), done == 1));
  CHECK_EQ(look(&member, "forgotten").shared, 1);
  leave(&member);
}

static void test_all_budgets_and_those_to_come(void) {
  member_t member = join("known", 0);
  llmpool_share_t share = {.size = sizeof share, .safe_share = 0.5};
  CHECK_OK(llmpool_budget_share(member.pool, NULL, &share));
  submit(&member, "new", 1);
  CHECK_SOON(ask(&member, "new") == LLMPOOL_OK);
  CHECK_OK(ask(&member, "known"));
  leave(&member);
}

/* Said before somebody listened, it is said again. */
/* Other notices of a queue that nobody drains may be lost; who is not asked for a lease would never have one. */
static void test_no_wish_for_a_lease_is_lost(void) {
  enum { MANY = 1500 };
  member_t member = join("first", 0);
  for (int i = 1; i < MANY; i++) {
    char name[32];
    snprintf(name, sizeof name, "budget %d", i);
    llmpool_budget_t budget = {.size = sizeof budget, .no_learning = 1};
    llmpool_limit_t limit = {.amount = 600, .window_ms = 60000};
    llmpool_share_t share = {.size = sizeof share, .safe_share = 0.25};
    CHECK_OK(llmpool_budget_configure(member.pool, name, &budget, &limit, sizeof limit, 1));
    CHECK_OK(llmpool_budget_share(member.pool, name, &share));
  }
  int told = 0;
  while (told < MANY) {
    llmpool_event_t notice = harness_next(member.wanted);
    told += notice.notice == LLMPOOL_NOTICE_LEASE_WANTED;
    harness_release(&notice);
  }
  leave(&member);
}

static void test_who_listens_later_hears_of_it(void) {
  member_t member = join("early", 0);
  llmpool_queue_t *late = harness_queue();
  CHECK_OK(llmpool_watch(member.pool, late, LLMPOOL_NOTICE_LEASE_WANTED, 0));
  llmpool_event_t notice = harness_next(late);
  CHECK_STR(notice.data, "early");
  harness_release(&notice);
  CHECK_OK(llmpool_queue_close(late));
  leave(&member);
}

static void test_a_demand_that_is_refused_was_none(void) {
  member_t member = join("refused", 0);
  llmpool_event_t notice = harness_next(member.wanted);
  harness_release(&notice);
  CHECK_OK(ask(&member, "refused"));
  llmpool_lease_t other = {.size = sizeof other};
  CHECK_REFUSED(llmpool_budget_demand(member.pool, "refused", &other, member.limits, 8, 12, NULL),
                LLMPOOL_E_INVALID_ARGUMENT, "limit_size");
  CHECK_REFUSED(llmpool_budget_demand(member.pool, "refused", &other, NULL, sizeof *member.limits, 12, NULL),
                LLMPOOL_E_INVALID_ARGUMENT, "limits_out");
  grant(&member, "refused", 3, 60000); /* of the first */
  CHECK_SOON(look(&member, "refused").leased == 1);
  leave(&member);
}

static void test_arguments(void) {
  member_t member = join("arguments", 0);
  llmpool_t *pool = member.pool;
  llmpool_share_t share = {.size = sizeof share, .safe_share = 0};
  CHECK_REFUSED(llmpool_budget_share(pool, "arguments", &share), LLMPOOL_E_INVALID_ARGUMENT, "safe_share");
  share.safe_share = 1.5;
  CHECK_REFUSED(llmpool_budget_share(pool, "arguments", &share), LLMPOOL_E_INVALID_ARGUMENT, "safe_share");
  share.safe_share = 1;
  share.no_store = 2;
  CHECK_REFUSED(llmpool_budget_share(pool, "arguments", &share), LLMPOOL_E_INVALID_ARGUMENT, "no_store");
  share.no_store = 0;
  CHECK_REFUSED(llmpool_budget_share(pool, "", &share), LLMPOOL_E_INVALID_ARGUMENT, "name");
  CHECK_REFUSED(ask(&member, "unknown"), LLMPOOL_E_NOT_FOUND, "unknown");
  CHECK_SOON(ask(&member, "arguments") == LLMPOOL_OK);
  llmpool_lease_t lease = member.lease;
  llmpool_lease_limit_t limit = member.limits[0];
  lease.members = 1;
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", &lease, &limit, sizeof limit, 1), LLMPOOL_E_INVALID_ARGUMENT,
                "valid_ms");
  lease.valid_ms = 1000;
  lease.members = 0;
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", &lease, &limit, sizeof limit, 1), LLMPOOL_E_INVALID_ARGUMENT,
                "members");
  lease.members = 1;
  limit.granted = UINT64_MAX;
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", &lease, &limit, sizeof limit, 1), LLMPOOL_E_INVALID_ARGUMENT,
                "limits[0].granted");
  limit.granted = 0;
  limit.unit = 9;
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", &lease, &limit, sizeof limit, 1), LLMPOOL_E_INVALID_ARGUMENT,
                "limits[0].unit");
  limit.unit = 0;
  limit.told = 6;
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", &lease, &limit, sizeof limit, 1), LLMPOOL_E_INVALID_ARGUMENT,
                "limits[0].told");
  limit.told = 0;
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", &lease, &limit, 8, 1), LLMPOOL_E_INVALID_ARGUMENT,
                "limit_size");
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", &lease, &limit, sizeof limit, 12), LLMPOOL_E_INVALID_ARGUMENT,
                "count");
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", &lease, NULL, sizeof limit, 1), LLMPOOL_E_INVALID_ARGUMENT,
                "limits");
  CHECK_REFUSED(llmpool_budget_grant(pool, NULL, &lease, NULL, 0, 0), LLMPOOL_E_INVALID_ARGUMENT, "name");
  lease.size = 8;
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", &lease, NULL, 0, 0), LLMPOOL_E_INVALID_ARGUMENT, "lease.size");
  CHECK_REFUSED(llmpool_budget_grant(pool, "arguments", NULL, NULL, 0, 0), LLMPOOL_E_INVALID_ARGUMENT, "lease");
  CHECK_REFUSED(llmpool_budget_demand(pool, "arguments", NULL, NULL, 0, 0, NULL), LLMPOOL_E_INVALID_ARGUMENT,
                "lease_out");
  leave(&member);
}

static void set_up(void) { server = server_start(); }
static void tear_down(void) { server_stop(server); }

int main(void) {
  RUN(set_up);
  RUN(test_what_is_granted_is_spent);
  RUN(test_where_no_lease_holds_a_safe_share_is_spent);
  RUN(test_without_a_store_nobody_is_asked);
  RUN(test_two_members_keep_one_limit);
  RUN(test_what_is_not_needed_is_given_back);
  RUN(test_what_the_others_know_holds_here);
  RUN(test_limits_of_before);
  RUN(test_what_was_forgotten_is_shared_again);
  RUN(test_all_budgets_and_those_to_come);
  RUN(test_no_wish_for_a_lease_is_lost);
  RUN(test_who_listens_later_hears_of_it);
  RUN(test_a_demand_that_is_refused_was_none);
  RUN(test_arguments);
  RUN(tear_down);
  return check_report();
}
