/* A machine whose clock is off, for one process and what it starts: preloaded, it reads the time of day CLOCK_SHIFT_S
   seconds later (negative: earlier). Time that only runs is left alone, and waits until a time of day end when they
   would have: else a process under it would wait for days, or not at all. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define TIME_OF_DAY 1000000000 /* seconds above this are no uptime */

static long shift(void) {
    static long seconds, known;
    if (!known) {
        const char *text = getenv("CLOCK_SHIFT_S");
        seconds = text ? atol(text) : 0;
        known = 1;
    }
    return seconds;
}

static struct timespec truly(const struct timespec *at) {
    struct timespec found = *at;
    if (found.tv_sec > TIME_OF_DAY) found.tv_sec -= shift();
    return found;
}

int clock_gettime(clockid_t clock, struct timespec *found) {
    REAL(clock_gettime);
    int code = real(clock, found);
    if (!code && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) found->tv_sec += shift();
    return code;
}

time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *found, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    REAL(pthread_cond_timedwait);
    struct timespec at = truly(until);
    return real(condition, mutex, &at);
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    REAL(pthread_cond_clockwait);
    struct timespec at = truly(until);
    return real(condition, mutex, clock, &at);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    REAL(sem_timedwait);
    struct timespec at = truly(until);
    return real(semaphore, &at);
}

long syscall(long number, ...) {
    REAL(syscall);
    long words[6];
    va_list rest;
    va_start(rest, number);
    for (int word = 0; word < 6; word++) words[word] = va_arg(rest, long);
    va_end(rest);
    struct timespec at;
    if (number == SYS_futex && words[1] & FUTEX_CLOCK_REALTIME && words[3]) {
        at = truly((const struct timespec *)words[3]);
        words[3] = (long)&at;
    }
    return real(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
