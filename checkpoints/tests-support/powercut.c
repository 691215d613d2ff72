/* A disk that forgets: LD_PRELOAD shim that cuts the power at one operation.
 *
 * It watches one folder, keeps what every unsynced 4 KiB block held before, and at operation POWERCUT_AT lets each of
 * these blocks survive, vanish, tear at 512-byte sectors or turn to garbage, undoes a random tail of the unsynced
 * folder operations, and ends the process. sync_file_range makes nothing durable. Everything follows from
 * POWERCUT_SEED. With POWERCUT_FAULT the operation fails instead (EIO, ENOSPC; or SHORT: half a write), and a failed
 * sync loses blocks like a cut. POWERCUT_REPORT names a file that receives the number of operations seen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 4096, SECTOR = 512, FDS = 4096, FILES = 4096, STEPS = 8192, BUCKETS = 1 << 14 };
enum { CREATED, RENAMED, REMOVED };

typedef struct Block { int file; off_t index; struct Block *in_bucket, *in_file; unsigned char old[BLOCK]; } Block;
typedef struct { ino_t ino; off_t size; int dirty; Block *blocks; char path[512]; } File;
typedef struct { int kind; ino_t dir; char from[512], to[512], saved[512]; } Step;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char dir[512], report[512], graveyard[600];
static size_t dir_len;
static long cut_at, ops, fault;
static uint64_t rng;
static int fd_file[FDS], n_files, n_steps, n_saved;
static ino_t fd_dir[FDS];
static File files[FILES];
static Block *buckets[BUCKETS];
static Step steps[STEPS];

static void *find(void **slot, const char *name) { if (!*slot) *slot = dlsym(RTLD_NEXT, name); return *slot; }
#define REAL(name) ((typeof(&name))find(&real_##name, #name))
#define DECLARE(name) static void *real_##name;
DECLARE(open64) DECLARE(openat64) DECLARE(close) DECLARE(write) DECLARE(writev) DECLARE(pwrite64) DECLARE(ftruncate64)
DECLARE(fsync) DECLARE(fdatasync) DECLARE(sync_file_range) DECLARE(rename) DECLARE(unlink)

static uint64_t chance(uint64_t n) {
    rng += 0x9e3779b97f4a7c15ULL;
    uint64_t z = rng;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return (z ^ (z >> 31)) % n;
}

__attribute__((constructor)) static void start(void) {
    const char *d = getenv("POWERCUT_DIR"), *r = getenv("POWERCUT_REPORT"), *f = getenv("POWERCUT_FAULT");
    if (!d) return;
    snprintf(dir, sizeof dir, "%s", d);
    dir_len = strlen(dir);
    snprintf(graveyard, sizeof graveyard, "%s.removed", dir);
    mkdir(graveyard, 0700);
    if (r) snprintf(report, sizeof report, "%s", r);
    cut_at = atol(getenv("POWERCUT_AT") ?: "0");
    rng = strtoull(getenv("POWERCUT_SEED") ?: "1", NULL, 10) * 2654435761ULL + (uint64_t)cut_at;
    fault = !f ? 0 : !strcmp(f, "EIO") ? EIO : !strcmp(f, "ENOSPC") ? ENOSPC : -1;
}

static void write_report(const char *how) {
    if (!report[0]) return;
    char line[64];
    int n = snprintf(line, sizeof line, "%s %ld\n", how, ops);
    int fd = REAL(open64)(report, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0 && REAL(write)(fd, line, n) == n) REAL(close)(fd);
}

__attribute__((destructor)) static void end(void) { if (dir_len) write_report("end"); }

static int watched(const char *path) { return dir_len && path && !strncmp(path, dir, dir_len) && (path[dir_len] == '/' || !path[dir_len]); }

static Block **bucket(int file, off_t index) {
    return &buckets[((uint64_t)file * 1000003 + (uint64_t)index * 2654435761ULL) % BUCKETS];
}

static int track(int fd, const char *path) {
    struct stat st;
    if (fd < 0 || fd >= FDS || fstat(fd, &st)) return -1;
    if (S_ISDIR(st.st_mode)) { fd_dir[fd] = st.st_ino; return -1; }
    int i = 0;
    while (i < n_files && files[i].ino != st.st_ino) i++;
    if (i == FILES) abort();
    if (i == n_files) { n_files++; files[i].ino = st.st_ino; files[i].size = st.st_size; files[i].dirty = 0; files[i].blocks = NULL; }
    snprintf(files[i].path, sizeof files[i].path, "%s", path);
    fd_file[fd] = i + 1;
    return i;
}

/* Keeps what blocks held before [from, to) changes; beyond the end of the file there was nothing. */
static void keep(int fd, int file, off_t from, off_t to) {
    struct stat st;
    if (fstat(fd, &st)) return;
    if (!files[file].dirty) { files[file].dirty = 1; files[file].size = st.st_size; }
    int rfd = REAL(open64)(files[file].path, O_RDONLY);
    for (off_t index = from / BLOCK; index * BLOCK < to; index++) {
        Block **place = bucket(file, index), *b = *place;
        while (b && (b->file != file || b->index != index)) b = b->in_bucket;
        if (b) continue;
        b = calloc(1, sizeof *b);
        if (!b) abort();
        b->file = file; b->index = index;
        b->in_bucket = *place; *place = b;
        b->in_file = files[file].blocks; files[file].blocks = b;
        if (rfd >= 0 && pread(rfd, b->old, BLOCK, index * BLOCK) < 0) abort();
    }
    if (rfd >= 0) REAL(close)(rfd);
}

static void forget(int file) {
    for (Block *b = files[file].blocks, *next; b; b = next) {
        Block **at = bucket(file, b->index);
        while (*at != b) at = &(*at)->in_bucket;
        *at = b->in_bucket;
        next = b->in_file;
        free(b);
    }
    files[file].blocks = NULL;
    files[file].dirty = 0;
}

static void damage(int fd, Block *b) {
    unsigned char now[BLOCK] = {0};
    if (pread(fd, now, BLOCK, b->index * BLOCK) < 0) return;
    switch (chance(16)) {
    case 0: case 1: case 2: case 3: case 4: case 5: return;
    /* Bytes of the block that were not being changed stay: a sector is not assumed to lose what it held. */
    case 6: for (int i = 0; i < BLOCK; i++) if (now[i] != b->old[i]) now[i] = (unsigned char)chance(256); break;
    case 7: case 8: case 9: for (int s = 0; s < BLOCK; s += SECTOR) if (chance(2)) memcpy(now + s, b->old + s, SECTOR); break;
    default: memcpy(now, b->old, BLOCK);
    }
    struct stat st;
    if (fstat(fd, &st) || st.st_size <= b->index * BLOCK) return;
    off_t room = st.st_size - b->index * BLOCK;
    if (REAL(pwrite64)(fd, now, room < BLOCK ? room : BLOCK, b->index * BLOCK) < 0) abort();
}

static void lose(int only) {
    for (int f = 0; f < n_files; f++) {
        struct stat st;
        if (!files[f].dirty || (only >= 0 && f != only)) continue;
        int fd = REAL(open64)(files[f].path, O_RDWR);
        if (fd < 0) continue;
        if (fstat(fd, &st) || st.st_ino != files[f].ino) { REAL(close)(fd); continue; }
        /* A file that grew may be short again; one that was cut may be whole again. */
        if (st.st_size != files[f].size && chance(2) && REAL(ftruncate64)(fd, files[f].size)) abort();
        for (Block *b = files[f].blocks; b; b = b->in_file) damage(fd, b);
        REAL(close)(fd);
    }
}

static void undo_steps(void) {
    int keep_n = n_steps ? (int)chance((uint64_t)n_steps + 1) : 0;
    for (int i = n_steps - 1; i >= keep_n; i--) {
        Step *s = &steps[i];
        if (s->kind == CREATED) REAL(unlink)(s->from);
        if (s->kind == RENAMED) { REAL(rename)(s->to, s->from); if (s->saved[0] && link(s->saved, s->to)) continue; }
        if (s->kind == REMOVED && link(s->saved, s->from)) continue;
    }
}

static void cut(void) { lose(-1); undo_steps(); write_report("cut"); _exit(99); }

static ino_t parent_of(const char *path) {
    char parent[512];
    struct stat st;
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash) *slash = 0;
    return stat(parent, &st) ? 0 : st.st_ino;
}

static Step *step(int kind, const char *from) {
    if (n_steps == STEPS) abort();
    Step *s = &steps[n_steps++];
    memset(s, 0, sizeof *s);
    s->kind = kind; s->dir = parent_of(from);
    snprintf(s->from, sizeof s->from, "%s", from);
    return s;
}

static void save(Step *s, const char *path) {
    char saved[512];
    snprintf(saved, sizeof saved, "%.480s/%d-%d", graveyard, (int)getpid(), n_saved++);
    if (!link(path, saved)) memcpy(s->saved, saved, sizeof saved);
}

static void dir_synced(ino_t ino) {
    int n = 0;
    for (int i = 0; i < n_steps; i++) if (steps[i].dir != ino) steps[n++] = steps[i];
    n_steps = n;
}

/* Counts one operation: 1 if the power goes, -1 if it must fail. */
static int hit(void) { return ++ops != cut_at ? 0 : fault ? -1 : 1; }

static int do_open(int at, const char *path, int flags, mode_t mode) {
    if (at != AT_FDCWD || !watched(path)) return REAL(openat64)(at, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat st;
    int fresh = (flags & O_CREAT) && stat(path, &st);
    int file = -1, fd = -1;
    if (flags & O_TRUNC) {
        fd = REAL(openat64)(at, path, O_RDWR, 0);
        if (fd >= 0 && (file = track(fd, path)) >= 0 && !fstat(fd, &st)) keep(fd, file, 0, st.st_size);
        if (fd >= 0) { fd_file[fd] = 0; REAL(close)(fd); }
    }
    fd = REAL(openat64)(at, path, flags, mode);
    int e = errno;
    track(fd, path);
    if (fd >= 0 && fresh) step(CREATED, path);
    pthread_mutex_unlock(&lock);
    errno = e;
    return fd;
}

#define MODE(flags, mode) mode_t mode = 0; if ((flags) & O_CREAT) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); }
int open(const char *p, int flags, ...) { MODE(flags, m) return do_open(AT_FDCWD, p, flags, m); }
int open64(const char *p, int flags, ...) { MODE(flags, m) return do_open(AT_FDCWD, p, flags, m); }
int openat(int at, const char *p, int flags, ...) { MODE(flags, m) return do_open(at, p, flags, m); }
int openat64(int at, const char *p, int flags, ...) { MODE(flags, m) return do_open(at, p, flags, m); }

int close(int fd) {
    if (dir_len && fd >= 0 && fd < FDS) { pthread_mutex_lock(&lock); fd_file[fd] = 0; fd_dir[fd] = 0; pthread_mutex_unlock(&lock); }
    return REAL(close)(fd);
}

static ssize_t do_write(int fd, const void *buf, size_t n, off_t at, int positioned) {
    int file = fd >= 0 && fd < FDS ? fd_file[fd] - 1 : -1;
    if (file < 0) return positioned ? REAL(pwrite64)(fd, buf, n, at) : REAL(write)(fd, buf, n);
    pthread_mutex_lock(&lock);
    struct stat st;
    if (!positioned) at = (fcntl(fd, F_GETFL) & O_APPEND) && !fstat(fd, &st) ? st.st_size : lseek(fd, 0, SEEK_CUR);
    int h = hit();
    if (h < 0 && fault > 0) { pthread_mutex_unlock(&lock); errno = (int)fault; return -1; }
    if (h < 0 && n > 1) n /= 2;
    keep(fd, file, at, at + (off_t)n);
    ssize_t res = positioned ? REAL(pwrite64)(fd, buf, n, at) : REAL(write)(fd, buf, n);
    int e = errno;
    if (h > 0) cut();
    pthread_mutex_unlock(&lock);
    errno = e;
    return res;
}

ssize_t write(int fd, const void *buf, size_t n) { return do_write(fd, buf, n, 0, 0); }
ssize_t pwrite64(int fd, const void *buf, size_t n, off_t at) { return do_write(fd, buf, n, at, 1); }
ssize_t pwrite(int fd, const void *buf, size_t n, off_t at) { return do_write(fd, buf, n, at, 1); }
ssize_t writev(int fd, const struct iovec *v, int n) {
    if (fd < 0 || fd >= FDS || !fd_file[fd] || n < 1) return REAL(writev)(fd, v, n);
    int i = 0;
    while (i + 1 < n && !v[i].iov_len) i++;
    return do_write(fd, v[i].iov_base, v[i].iov_len, 0, 0); /* a short write: the caller goes on */
}

static int do_sync(int fd, int (*real)(int)) {
    int file = fd >= 0 && fd < FDS ? fd_file[fd] - 1 : -1;
    if (!dir_len || fd < 0 || fd >= FDS || (file < 0 && !fd_dir[fd])) return real(fd);
    pthread_mutex_lock(&lock);
    int h = hit();
    if (h > 0) cut();
    /* A failed sync: the blocks may be gone, and the next sync will not say so. */
    if (h < 0 && fault > 0 && file >= 0) lose(file);
    if (file >= 0) forget(file); else if (!h || fault < 0) dir_synced(fd_dir[fd]);
    pthread_mutex_unlock(&lock);
    if (h < 0 && fault > 0) { errno = (int)fault; return -1; }
    return 0; /* the real sync would only cost time: the page cache outlives _exit */
}

int fsync(int fd) { return do_sync(fd, REAL(fsync)); }
int fdatasync(int fd) { return do_sync(fd, REAL(fdatasync)); }
int sync_file_range(int fd, off64_t at, off64_t n, unsigned flags) {
    return dir_len && fd >= 0 && fd < FDS && fd_file[fd] ? 0 : REAL(sync_file_range)(fd, at, n, flags);
}

int ftruncate64(int fd, off_t size) {
    int file = fd >= 0 && fd < FDS ? fd_file[fd] - 1 : -1;
    if (file < 0) return REAL(ftruncate64)(fd, size);
    pthread_mutex_lock(&lock);
    struct stat st;
    int h = hit();
    if (h < 0 && fault > 0) { pthread_mutex_unlock(&lock); errno = (int)fault; return -1; }
    if (!fstat(fd, &st)) keep(fd, file, size, st.st_size);
    int res = REAL(ftruncate64)(fd, size);
    if (h > 0) cut();
    pthread_mutex_unlock(&lock);
    return res;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int rename(const char *from, const char *to) {
    if (!watched(to)) return REAL(rename)(from, to);
    pthread_mutex_lock(&lock);
    if (hit() > 0) cut();
    Step *s = step(RENAMED, from);
    snprintf(s->to, sizeof s->to, "%s", to);
    save(s, to);
    int res = REAL(rename)(from, to);
    struct stat st;
    if (res) n_steps--;
    else if (!stat(to, &st)) for (int i = 0; i < n_files; i++) if (files[i].ino == st.st_ino) snprintf(files[i].path, sizeof files[i].path, "%s", to);
    pthread_mutex_unlock(&lock);
    return res;
}

int unlink(const char *path) {
    if (!watched(path)) return REAL(unlink)(path);
    pthread_mutex_lock(&lock);
    if (hit() > 0) cut();
    Step *s = step(REMOVED, path);
    save(s, path);
    int res = REAL(unlink)(path);
    if (res) n_steps--;
    pthread_mutex_unlock(&lock);
    return res;
}
