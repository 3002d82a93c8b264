/* A plugin for qemu-user that counts the guest instructions between marks. The program under test makes a mark with
 * getpgid(0), a system call that computes nothing and that nobody else makes, so start-up and loading never enter a
 * count. Written against version 1 of QEMU's plugin interface, whose few declarations stand here because
 * distributions ship no header.
 *
 *     cc -O2 -shared -fPIC -o instruction_count.so instruction_count.c
 *     qemu-aarch64 -cpu cortex-a76 -plugin ./instruction_count.so,out=FILE[,blocks=1] PROGRAM
 *
 * Writes, at every mark and at exit, the instructions executed since the mark before:
 *     mark TOTAL
 * and with blocks=1, before that line, one line for every translated block executed since then:
 *     block COUNT OBJECT OFFSET        instructions; the object file and the offset in it where the block begins
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*tb_callback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*exit_callback)(qemu_plugin_id_t, void *);
typedef void (*syscall_callback)(qemu_plugin_id_t, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t,
                                 uint64_t, uint64_t, uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_callback);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_callback);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, exit_callback, void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { GETPGID = 155 /* on AArch64 */, PATH_BYTES = 512 };

/* A translated block: where it lies in this process, and the instructions executed in it since the last mark. */
typedef struct block {
    struct block *next;
    uint64_t address, executed;
} block;

static uint64_t executed;
static block *blocks;
static bool want_blocks;
static FILE *out;

static void count_block(qemu_plugin_id_t id, struct qemu_plugin_tb *translated)
{
    (void)id;
    const size_t length = qemu_plugin_tb_n_insns(translated);
    qemu_plugin_register_vcpu_tb_exec_inline(translated, QEMU_PLUGIN_INLINE_ADD_U64, &executed, length);
    block *counter = want_blocks ? calloc(1, sizeof *counter) : NULL;
    if (!counter)
        return;
    counter->address = (uint64_t)(uintptr_t)qemu_plugin_insn_haddr(qemu_plugin_tb_get_insn(translated, 0));
    counter->next = blocks;
    blocks = counter;
    qemu_plugin_register_vcpu_tb_exec_inline(translated, QEMU_PLUGIN_INLINE_ADD_U64, &counter->executed, length);
}

/* Writes and clears the counts of the blocks that lie in [first, last), which maps `path` from `offset`. */
static void write_mapping(uint64_t first, uint64_t last, uint64_t offset, const char *path)
{
    for (block *b = blocks; b; b = b->next)
        if (b->executed && b->address >= first && b->address < last) {
            fprintf(out, "block %" PRIu64 " %s %" PRIu64 "\n", b->executed, path, b->address - first + offset);
            b->executed = 0;
        }
}

static void write_blocks(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[PATH_BYTES + 128];
    while (maps && fgets(line, sizeof line, maps)) {
        uint64_t first, last, offset;
        char path[PATH_BYTES] = "";
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %511s", &first, &last, &offset, path) == 4)
            write_mapping(first, last, offset, path);
    }
    if (maps)
        fclose(maps);
}

static void write_mark(void)
{
    if (want_blocks)
        write_blocks();
    fprintf(out, "mark %" PRIu64 "\n", executed);
    fflush(out);
    executed = 0;
}

static void on_syscall(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)cpu, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == GETPGID)
        write_mark();
}

static void on_exit_of_guest(qemu_plugin_id_t id, void *data)
{
    (void)id, (void)data;
    write_mark();
    fclose(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                                               char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0)
            out = fopen(argv[i] + 4, "w");
        want_blocks |= strcmp(argv[i], "blocks=1") == 0;
    }
    if (!out)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_exit_of_guest, NULL);
    return 0;
}
