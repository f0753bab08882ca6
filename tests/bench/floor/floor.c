// The floor under "run one container": one clone3 into all namespaces, the
// mounts of the OCI runtime specification, an overlay, pivot_root, exec, wait.
// Usage: floor LOWER SCRATCH CGROUP... -- ARGV...; each CGROUP is a folder that
// is made, joined and removed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(x) do { if ((x) < 0) { perror(#x); _exit(111); } } while (0)
enum { NS = MS_NOSUID, NE = MS_NOEXEC, ND = MS_NODEV };

static void enter(const char *lower, const char *scratch, char **argv) {
	char data[2048];
	struct ifreq lo = {.ifr_flags = IFF_UP};
	strcpy(lo.ifr_name, "lo");
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ioctl(s, SIOCSIFFLAGS, &lo);
	MUST(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
	MUST(sethostname("pod", 3));
	snprintf(data, sizeof data, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, scratch, scratch);
	MUST(chdir(scratch));
	MUST(mount("overlay", "root", "overlay", 0, data));
	MUST(chdir("root"));
	MUST(mount("proc", "proc", "proc", NS | NE | ND, 0));
	MUST(mount("tmpfs", "dev", "tmpfs", NS, "mode=755,size=64k"));
	mkdir("dev/pts", 0755), mkdir("dev/shm", 01777), mkdir("dev/mqueue", 0755);
	MUST(mount("devpts", "dev/pts", "devpts", NS | NE, "newinstance,ptmxmode=0666"));
	MUST(mount("shm", "dev/shm", "tmpfs", NS | NE | ND, "mode=1777,size=64m"));
	MUST(mount("mqueue", "dev/mqueue", "mqueue", NS | NE | ND, 0));
	MUST(mount("sysfs", "sys", "sysfs", NS | NE | ND | MS_RDONLY, 0));
	static const struct { const char *path; int minor; } nodes[] = {{"dev/null", 3}, {"dev/zero", 5}, {"dev/full", 7}, {"dev/random", 8}, {"dev/urandom", 9}};
	for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++)
		MUST(mknod(nodes[i].path, S_IFCHR | 0666, makedev(1, nodes[i].minor)));
	static const char *masked[] = {"proc/kcore", "proc/keys", "proc/timer_list", "proc/interrupts"};
	for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++)
		mount("/dev/null", masked[i], 0, MS_BIND, 0);
	static const char *closed[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
	for (unsigned i = 0; i < sizeof closed / sizeof *closed; i++)
		if (mount(closed[i], closed[i], 0, MS_BIND | MS_REC, 0) == 0)
			mount(0, closed[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY | NS | ND | NE, 0);
	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));
	execv(argv[0], argv);
	perror(argv[0]);
	_exit(127);
}

int main(int argc, char **argv) {
	const char *lower = argv[1], *scratch = argv[2];
	int first = 3, last = 3;
	while (last < argc && strcmp(argv[last], "--"))
		last++;
	char path[2048];
	for (int i = first; i < last; i++)
		MUST(mkdir(argv[i], 0755));
	mkdir(scratch, 0755);
	static const char *dirs[] = {"upper", "work", "root"};
	for (int i = 0; i < 3; i++)
		snprintf(path, sizeof path, "%s/%s", scratch, dirs[i]), mkdir(path, 0755);
	int go[2];
	MUST(pipe2(go, O_CLOEXEC));
	struct clone_args args = {.exit_signal = SIGCHLD, .flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP};
	long pid = syscall(SYS_clone3, &args, sizeof args);
	MUST(pid);
	if (pid == 0) {
		char c;
		close(go[1]);
		MUST(read(go[0], &c, 1));
		enter(lower, scratch, argv + last + 1);
	}
	for (int i = first; i < last; i++) {
		snprintf(path, sizeof path, "%s/cgroup.procs", argv[i]);
		int f = open(path, O_WRONLY | O_CLOEXEC);
		dprintf(f, "%ld", pid);
		close(f);
	}
	MUST(write(go[1], "x", 1));
	int status;
	MUST(wait4(pid, &status, 0, 0));
	for (int i = first; i < last; i++)
		rmdir(argv[i]);
	snprintf(path, sizeof path, "%s/work/work", scratch), rmdir(path);
	for (int i = 0; i < 3; i++)
		snprintf(path, sizeof path, "%s/%s", scratch, dirs[i]), rmdir(path);
	rmdir(scratch);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}
