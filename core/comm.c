#include "core/comm.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"

/* ---- signs of life ---- */

enum pulse_kind { ALIVE, FAILED, BYE };
struct pulse {
    int64_t kind;
    char text[2040]; /* of FAILED */
};

/* Rank 0 and each other rank: what is under way between them. */
struct link {
    int peer;
    struct pulse in, out;
    void *receiving, *sending;
    double heard_s, sent_s;
    bool sent_bye, heard_bye;
};

struct lcl_pulses {
    struct link *link;
    int n;
    double looked_s, woke_s;
    bool said_failure;
};

static const double PULSE_S = 1;

static void end_job(struct lcl_comm *c)
{
    fflush(stdout);
    fflush(stderr);
    signal(SIGALRM, SIG_DFL); /* where even abort() waits for others */
    alarm(10);
    if (c->work != c->pulse) c->work->abort(c->work_state);
    c->pulse->abort(c->pulse_state);
    _exit(EXIT_FAILURE);
}

static const char *note_of(struct lcl_comm *c, char text[256])
{
    pthread_mutex_lock(&c->lock);
    snprintf(text, 256, "%s", c->note);
    pthread_mutex_unlock(&c->lock);
    return text;
}

static void lose(struct lcl_comm *c, int peer, double silent_s)
{
    char note[256];
    fprintf(stderr,
            "error: rank %d (%s) has given no sign of life for %.0f s, seen from rank %d (%s)%s%s\n"
            "hint: look for what stopped it there (memory, network, a signal); --auto-resume goes "
            "on from the newest good checkpoint\n",
            peer, c->host[peer], silent_s, c->rank, c->host[c->rank],
            note_of(c, note)[0] ? "; " : "", note);
    end_job(c);
}

static lcl_status send_pulse(struct lcl_comm *c, struct link *l, enum pulse_kind kind,
                             const char *text)
{
    l->out = (struct pulse){.kind = kind};
    snprintf(l->out.text, sizeof l->out.text, "%s", text);
    l->sent_s = lcl_time_s();
    l->sent_bye = kind == BYE;
    const struct lcl_parcel m = {l->peer, false, &l->out, sizeof l->out};
    return c->pulse->begin(c->pulse_state, LCL_CHANNEL_PULSE, &m, 1, &l->sending);
}

static lcl_status await_pulse(struct lcl_comm *c, struct link *l)
{
    const struct lcl_parcel m = {l->peer, true, &l->in, sizeof l->in};
    return c->pulse->begin(c->pulse_state, LCL_CHANNEL_PULSE, &m, 1, &l->receiving);
}

static lcl_status take_pulse(struct lcl_comm *c, struct link *l)
{
    l->heard_s = lcl_time_s();
    if (l->in.kind == FAILED) {
        fprintf(stderr, "%s\n", lcl_printable(l->in.text));
        end_job(c);
    }
    l->heard_bye = l->in.kind == BYE;
    return l->heard_bye ? LCL_OK : await_pulse(c, l);
}

static const char *failure_of(struct lcl_comm *c, char text[sizeof c->failure])
{
    pthread_mutex_lock(&c->lock);
    memcpy(text, c->failure, sizeof c->failure);
    pthread_mutex_unlock(&c->lock);
    return text;
}

static lcl_status beat_link(struct lcl_comm *c, struct link *l, double now)
{
    char failure[sizeof c->failure];
    if (l->receiving) {
        LCL_TRY(c->pulse->test(c->pulse_state, &l->receiving));
        if (!l->receiving) LCL_TRY(take_pulse(c, l));
    }
    if (l->sending) LCL_TRY(c->pulse->test(c->pulse_state, &l->sending));
    if (l->sending || l->sent_bye) return LCL_OK;
    if (c->rank != 0 && failure_of(c, failure)[0]) { /* the first prints its own: beat() */
        if (c->pulses->said_failure) return LCL_OK;
        c->pulses->said_failure = true;
        return send_pulse(c, l, FAILED, failure);
    }
    return now - l->sent_s >= PULSE_S ? send_pulse(c, l, ALIVE, "") : LCL_OK;
}

/* A launcher that is gone has left this rank alone: nobody reads what it prints, nobody ends it. */
static void look_for_launcher(struct lcl_comm *c)
{
    if (getppid() == c->launcher) return;
    signal(SIGPIPE, SIG_IGN);
    fprintf(stderr, "error: rank %d: its launcher (process %d) is gone\n", c->rank,
            (int)c->launcher);
    _exit(EXIT_FAILURE);
}

/* What ends a job with a signal, a user or a launcher that lost a rank, is told where it stands. */
static void say_signal(struct lcl_comm *c)
{
    char note[256];
    if (c->rank != 0 || c->said_signal || !c->signalled || !*c->signalled) return;
    c->said_signal = true;
    fprintf(stderr, "rank 0 (%s) was sent signal %d at %s\n", c->host ? c->host[0] : "?",
            (int)*c->signalled, note_of(c, note)[0] ? note : "the start");
}

/* Says and hears that ranks are alive; ends the job where one is not. */
static lcl_status beat(struct lcl_comm *c)
{
    struct lcl_pulses *p = c->pulses;
    double now = lcl_time_s();
    look_for_launcher(c);
    /* This rank itself stood still (a stopped process, a suspended machine): nobody is late. */
    bool slept = now - p->looked_s > c->pulse_timeout_s / 4;
    char failure[sizeof c->failure];
    /* Of all ranks that miss the first, the second alone ends the job, where it can. */
    const double patience = c->pulse_timeout_s + (c->rank > 1 ? 3 : 0);
    p->looked_s = now;
    if (slept) p->woke_s = now;
    if (now - p->woke_s > 5) say_signal(c); /* else others have ended the job meanwhile */
    if (c->rank == 0 && failure_of(c, failure)[0]) {
        fprintf(stderr, "%s\n", failure);
        end_job(c);
    }
    for (int i = 0; i < p->n; i++) {
        struct link *l = &p->link[i];
        if (slept) l->heard_s = now;
        LCL_TRY(beat_link(c, l, now));
        if (!l->heard_bye && now - l->heard_s > patience) lose(c, l->peer, now - l->heard_s);
    }
    return LCL_OK;
}

static lcl_status open_pulses(struct lcl_comm *c)
{
    struct lcl_pulses *p = calloc(1, sizeof *p);
    int n = c->rank == 0 ? c->size - 1 : 1;
    if (p) p->link = calloc((size_t)(n ? n : 1), sizeof *p->link);
    c->pulses = p;
    if (!p || !p->link) return LCL_FAIL(LCL_MEMORY, "no memory for a list of ranks");
    p->n = n;
    p->looked_s = lcl_time_s();
    for (int i = 0; i < n; i++) {
        p->link[i] = (struct link){.peer = c->rank == 0 ? i + 1 : 0, .heard_s = p->looked_s};
        LCL_TRY(await_pulse(c, &p->link[i]));
    }
    return LCL_OK;
}

static void free_pulses(struct lcl_comm *c)
{
    if (c->pulses) free(c->pulses->link);
    free(c->pulses);
    c->pulses = NULL;
}

/* Sleeps a little longer each time; beats now and then. */
static lcl_status idle(struct lcl_comm *c, int *turns)
{
    const struct timespec nap = {0, *turns < 2000 ? 20000 : 200000};
    if (*turns < 50)
        sched_yield();
    else
        nanosleep(&nap, NULL);
    (*turns)++;
    return *turns % 64 == 0 ? beat(c) : LCL_OK;
}

/* All ranks say that nothing follows, and hear it. */
static lcl_status say_bye(struct lcl_comm *c)
{
    int turns = 0;
    for (;;) {
        bool all = true;
        for (int i = 0; i < c->pulses->n; i++) {
            struct link *l = &c->pulses->link[i];
            if (!l->sending && !l->sent_bye) LCL_TRY(send_pulse(c, l, BYE, ""));
            all &= l->sent_bye && !l->sending && l->heard_bye;
        }
        if (all) return LCL_OK;
        LCL_TRY(beat(c));
        LCL_TRY(idle(c, &turns));
    }
}

/* ---- the courier ---- */

static lcl_status wait_for(struct lcl_comm *c, const struct lcl_filling *f, void *state,
                           void **request, const struct lcl_parcel *m, int n, bool patient)
{
    double begin = lcl_time_s();
    int turns = 0;
    while (*request) {
        LCL_TRY(f->test(state, request));
        if (!*request) return LCL_OK;
        LCL_TRY(idle(c, &turns));
        if (!patient && turns % 1024 == 0 && lcl_time_s() - begin > c->timeout_s)
            return LCL_FAIL_HINT(LCL_IO, "raise comm_timeout_s where one rank works so long alone",
                                 "rank %d has waited %.0f s for rank %d%s", c->rank,
                                 lcl_time_s() - begin, m[0].peer, n > 1 ? " or others" : "");
    }
    return LCL_OK;
}

lcl_status lcl_comm_exchange(struct lcl_comm *c, enum lcl_traffic traffic,
                             const struct lcl_parcel *m, int n)
{
    bool bulk = traffic == LCL_TRAFFIC_GRADIENTS || traffic == LCL_TRAFFIC_VALUES;
    const struct lcl_filling *f = bulk ? c->work : c->pulse;
    void *state = bulk ? c->work_state : c->pulse_state, *request = NULL;
    for (int i = 0; i < n; i++)
        if (!m[i].receive) c->sent_bytes[traffic] += m[i].bytes;
    if (n == 0) return LCL_OK;
    LCL_TRY(f->begin(state, LCL_CHANNEL_WORK, m, n, &request));
    return wait_for(c, f, state, &request, m, n, traffic == LCL_TRAFFIC_CONTROL);
}

static void finish(struct lcl_comm *c, struct lcl_comm_job *job, lcl_status status)
{
    struct lcl_error error = {.code = LCL_OK};
    if (status != LCL_OK) {
        lcl_status told = lcl_fail_context(status, "%s", job->what);
        lcl_error_save(&error, told);
    }
    pthread_mutex_lock(&c->lock);
    job->error = error;
    job->done = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static struct lcl_comm_job *take(struct lcl_comm *c, bool *closing)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 100 * 1000 * 1000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&c->lock);
    if (!c->first && !c->closing && !c->failure[0])
        pthread_cond_timedwait(&c->changed, &c->lock, &until);
    struct lcl_comm_job *job = c->first;
    if (job) {
        c->first = job->next;
        if (!c->first) c->last = NULL;
    }
    *closing = c->closing && !job;
    pthread_mutex_unlock(&c->lock);
    return job;
}

/* A failure of the signs of life themselves: nothing can be told to anybody. */
static void give_up(struct lcl_comm *c)
{
    fprintf(stderr, "error: rank %d (%s): %s\n", c->rank, c->host ? c->host[c->rank] : "?",
            lcl_error_message());
    end_job(c);
}

static lcl_status run_one(struct lcl_comm *c, struct lcl_comm_job *job)
{
    if (job->mark) LCL_TRY(c->work->pass(c->work_state, job->mark));
    return job->run(c, job->ctx);
}

struct opening {
    struct lcl_comm *c;
    struct lcl_comm_job job;
};

static void *courier(void *arg)
{
    struct opening *o = arg;
    struct lcl_comm *c = o->c;
    bool closing = false;
    lcl_status status = c->work->open(&c->work_state, &c->rank, &c->size);
    c->pulse_state = c->work_state;
    if (status == LCL_OK && c->size > LCL_COMM_MOST)
        status = LCL_FAIL(LCL_RANGE, "%d ranks: at most %d", c->size, LCL_COMM_MOST);
    if (status == LCL_OK) status = open_pulses(c);
    bool opened = status == LCL_OK;
    finish(c, &o->job, status); /* o is gone after this */
    if (!opened) return NULL;
    while (!closing) {
        struct lcl_comm_job *job = take(c, &closing);
        if (job) finish(c, job, run_one(c, job));
        if (beat(c) != LCL_OK) give_up(c);
    }
    if (say_bye(c) != LCL_OK) give_up(c);
    if (c->work != c->pulse) c->work->close(c->work_state);
    c->pulse->close(c->pulse_state);
    return NULL;
}

static void wait_locked(struct lcl_comm *c, struct lcl_comm_job *job)
{
    pthread_mutex_lock(&c->lock);
    while (!job->done) pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

static lcl_status tell_hosts(struct lcl_comm *c)
{
    char mine[LCL_HOST_BYTES] = "";
    c->host = calloc((size_t)c->size, sizeof *c->host);
    if (!c->host) return LCL_FAIL(LCL_MEMORY, "no memory for a list of hosts");
    if (gethostname(mine, sizeof mine - 1) != 0) snprintf(mine, sizeof mine, "?");
    snprintf(c->host[c->rank], sizeof *c->host, "%s", mine);
    LCL_TRY(lcl_comm_all_gather(c, "names of hosts", mine, sizeof mine, c->host));
    for (int r = 0; r < c->size; r++) {
        if (strcmp(c->host[r], mine) != 0) continue;
        c->local_rank += r < c->rank;
        c->local_size++;
    }
    return LCL_OK;
}

lcl_status lcl_comm_open(struct lcl_comm *c, const struct lcl_filling *filling)
{
    *c = (struct lcl_comm){
        .timeout_s = 600, .pulse_timeout_s = 40, .work = filling, .pulse = filling, .size = 1};
    c->launcher = getppid();
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    struct opening o = {.c = c, .job = {.what = filling->name}};
    if (pthread_create(&c->thread, NULL, courier, &o) != 0)
        return LCL_FAIL(LCL_MEMORY, "no thread for messages between ranks: %s", strerror(errno));
    wait_locked(c, &o.job);
    if (o.job.error.code != LCL_OK) {
        pthread_join(c->thread, NULL);
        free_pulses(c);
        return lcl_error_restore(&o.job.error);
    }
    return tell_hosts(c);
}

struct addition {
    const struct lcl_filling *filling;
    void *state;
};

static lcl_status open_added(struct lcl_comm *c, void *ctx)
{
    struct addition *a = ctx;
    int rank = c->rank, size = c->size;
    LCL_TRY(a->filling->open(&a->state, &rank, &size));
    pthread_mutex_lock(&c->lock); /* threads that submit jobs read it */
    c->work = a->filling;
    c->work_state = a->state;
    pthread_mutex_unlock(&c->lock);
    return LCL_OK;
}

lcl_status lcl_comm_add_filling(struct lcl_comm *c, const struct lcl_filling *filling, void *state)
{
    struct addition a = {filling, state};
    struct lcl_comm_job job = {.run = open_added, .ctx = &a, .what = filling->name};
    lcl_comm_submit(c, &job);
    return lcl_comm_wait(c, &job);
}

void lcl_comm_close(struct lcl_comm *c)
{
    if (!c->work) return;
    pthread_mutex_lock(&c->lock);
    c->closing = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free_pulses(c);
    free(c->host);
    *c = (struct lcl_comm){0};
}

void lcl_comm_submit(struct lcl_comm *c, struct lcl_comm_job *job)
{
    job->next = NULL;
    job->mark = NULL;
    job->done = false;
    pthread_mutex_lock(&c->lock);
    const struct lcl_filling *work = c->work;
    void *state = c->work_state;
    pthread_mutex_unlock(&c->lock);
    lcl_status status = work->fence ? work->fence(state, &job->mark) : LCL_OK;
    if (status != LCL_OK) {
        finish(c, job, status);
        return;
    }
    pthread_mutex_lock(&c->lock);
    if (c->last)
        c->last->next = job;
    else
        c->first = job;
    c->last = job;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

lcl_status lcl_comm_wait(struct lcl_comm *c, struct lcl_comm_job *job)
{
    wait_locked(c, job);
    return job->error.code == LCL_OK ? LCL_OK : lcl_error_restore(&job->error);
}

bool lcl_comm_is_done(struct lcl_comm *c, struct lcl_comm_job *job)
{
    pthread_mutex_lock(&c->lock);
    bool done = job->done;
    pthread_mutex_unlock(&c->lock);
    return done;
}

/* ---- collectives of control ---- */

struct gather {
    const void *mine;
    const size_t *bytes_R; /* NULL: `bytes` of each */
    size_t bytes;
    unsigned char *all;
    int root; /* of a broadcast; -1: all to all */
};

static size_t bytes_of(const struct gather *g, int r)
{
    return g->bytes_R ? g->bytes_R[r] : g->bytes;
}

static lcl_status run_gather(struct lcl_comm *c, void *ctx)
{
    struct gather *g = ctx;
    struct lcl_parcel *m = calloc(2 * (size_t)c->size, sizeof *m);
    int n = 0;
    size_t at = 0;
    if (!m) return LCL_FAIL(LCL_MEMORY, "no memory for a list of messages");
    for (int r = 0; r < c->size; r++) {
        size_t bytes = bytes_of(g, r);
        if (r != c->rank && bytes) m[n++] = (struct lcl_parcel){r, true, g->all + at, bytes};
        if (r == c->rank && bytes && g->all + at != g->mine) memcpy(g->all + at, g->mine, bytes);
        at += bytes;
    }
    for (int r = 0; r < c->size; r++)
        if (r != c->rank && bytes_of(g, c->rank))
            m[n++] = (struct lcl_parcel){r, false, (void *)g->mine, bytes_of(g, c->rank)};
    lcl_status status = lcl_comm_exchange(c, LCL_TRAFFIC_CONTROL, m, n);
    free(m);
    return status;
}

static lcl_status run_broadcast(struct lcl_comm *c, void *ctx)
{
    struct gather *g = ctx;
    struct lcl_parcel *m = calloc((size_t)c->size, sizeof *m);
    int n = 0;
    if (!m) return LCL_FAIL(LCL_MEMORY, "no memory for a list of messages");
    for (int r = 0; r < c->size && g->bytes; r++)
        if (c->rank == g->root ? r != g->root : r == g->root)
            m[n++] = (struct lcl_parcel){r, c->rank != g->root, g->all, g->bytes};
    lcl_status status = lcl_comm_exchange(c, LCL_TRAFFIC_CONTROL, m, n);
    free(m);
    return status;
}

static lcl_status run_job(struct lcl_comm *c, const char *what, struct gather *g,
                          lcl_status (*run)(struct lcl_comm *, void *))
{
    struct lcl_comm_job job = {.run = run, .ctx = g, .what = what};
    lcl_comm_submit(c, &job);
    return lcl_comm_wait(c, &job);
}

lcl_status lcl_comm_all_gather_v(struct lcl_comm *c, const char *what, const void *mine,
                                 const size_t *bytes_R, void *all)
{
    if (lcl_comm_size(c) == 1) {
        if (all != mine) memcpy(all, mine, bytes_R[0]);
        return LCL_OK;
    }
    return run_job(c, what, &(struct gather){.mine = mine, .bytes_R = bytes_R, .all = all},
                   run_gather);
}

lcl_status lcl_comm_all_gather(struct lcl_comm *c, const char *what, const void *mine, size_t bytes,
                               void *all)
{
    if (lcl_comm_size(c) == 1) {
        if (all != mine) memcpy(all, mine, bytes);
        return LCL_OK;
    }
    return run_job(c, what, &(struct gather){.mine = mine, .bytes = bytes, .all = all}, run_gather);
}

lcl_status lcl_comm_barrier(struct lcl_comm *c, const char *what)
{
    unsigned char mine = 0, all[LCL_COMM_MOST];
    return lcl_comm_all_gather(c, what, &mine, 1, all);
}

lcl_status lcl_comm_broadcast(struct lcl_comm *c, const char *what, int root, void *data,
                              size_t bytes)
{
    if (lcl_comm_size(c) == 1) return LCL_OK;
    return run_job(c, what, &(struct gather){.bytes = bytes, .all = data, .root = root},
                   run_broadcast);
}

lcl_status lcl_comm_agree(struct lcl_comm *c, const char *what, lcl_status mine)
{
    struct lcl_error error = {.code = LCL_OK};
    int32_t code = (int32_t)mine, all[LCL_COMM_MOST];
    int first = -1;
    if (lcl_comm_size(c) == 1) return mine;
    if (mine != LCL_OK) lcl_error_save(&error, mine);
    LCL_TRY(lcl_comm_all_gather(c, what, &code, sizeof code, all));
    for (int r = c->size; r-- > 0;)
        if (all[r] != LCL_OK) first = r;
    if (first < 0) return LCL_OK;
    LCL_TRY(lcl_comm_broadcast(c, what, first, &error, sizeof error));
    return lcl_error_restore(&error);
}

/* ---- failures ---- */

void lcl_comm_note(struct lcl_comm *c, const char *fmt, ...)
{
    va_list args;
    if (!c) return;
    va_start(args, fmt);
    pthread_mutex_lock(&c->lock);
    vsnprintf(c->note, sizeof c->note, fmt, args);
    pthread_mutex_unlock(&c->lock);
    va_end(args);
}

void lcl_comm_fail(struct lcl_comm *c)
{
    char note[256], text[sizeof c->failure];
    const char *hint = lcl_error_hint();
    int used = snprintf(text, sizeof text, "error: rank %d (%s): %s", c->rank,
                        c->host ? c->host[c->rank] : "?", lcl_error_message());
    note_of(c, note);
    if (used > 0 && (size_t)used < sizeof text)
        snprintf(text + used, sizeof text - (size_t)used, "%s%s%s%s", note[0] ? "; " : "", note,
                 *hint ? "\nhint: " : "", hint);
    /* Rank 0 prints it and ends all; where it cannot any more, this rank does. */
    const struct timespec wait = {10, 0};
    pthread_mutex_lock(&c->lock);
    snprintf(c->failure, sizeof c->failure, "%s", text);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    nanosleep(&wait, NULL);
    fprintf(stderr, "%s\n", text);
    _exit(EXIT_FAILURE);
}
