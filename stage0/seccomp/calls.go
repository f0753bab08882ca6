package seccomp

import "strings"

// allowed are the calls that pass, by what they are for. A call that asks for a
// capability stays here when a pod can be given that capability and the call is
// harmless without it.
func allowed() []string {
	return strings.Fields(`
		read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 lseek close close_range
		open openat openat2 creat stat lstat fstat newfstatat statx access faccessat faccessat2
		dup dup2 dup3 fcntl flock pipe pipe2 sendfile splice tee copy_file_range
		getdents getdents64 getcwd chdir fchdir chroot umask
		mkdir mkdirat rmdir rename renameat renameat2 link linkat unlink unlinkat symlink symlinkat
		readlink readlinkat mknod mknodat truncate ftruncate fallocate fadvise64 readahead
		chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat
		statfs fstatfs sync syncfs fsync fdatasync sync_file_range
		setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat
		listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat
		file_getattr file_setattr
		inotify_init inotify_init1 inotify_add_watch inotify_rm_watch

		poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
		eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime
		io_setup io_destroy io_getevents io_submit io_cancel io_pgetevents

		mmap mprotect munmap brk mremap msync mincore madvise process_madvise remap_file_pages
		mlock mlock2 munlock mlockall munlockall memfd_create mseal map_shadow_stack
		pkey_mprotect pkey_alloc pkey_free membarrier
		shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl
		mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr

		fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill
		pidfd_open pidfd_send_signal process_mrelease
		rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo
		rt_tgsigqueueinfo rt_sigsuspend sigaltstack pause restart_syscall
		futex futex_waitv futex_wake futex_wait futex_requeue set_robust_list get_robust_list
		rseq rseq_slice_yield set_tid_address gettid getpid getppid getpgid getpgrp setpgid getsid setsid
		arch_prctl prctl set_thread_area get_thread_area seccomp uretprobe
		landlock_create_ruleset landlock_add_rule landlock_restrict_self
		lsm_get_self_attr lsm_list_modules

		getuid geteuid getgid getegid getresuid getresgid getgroups
		setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capget capset

		nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times alarm
		getitimer setitimer timer_create timer_settime timer_gettime timer_getoverrun timer_delete
		adjtimex clock_adjtime
		getrlimit setrlimit prlimit64 getrusage getpriority setpriority ioprio_set ioprio_get
		sched_yield sched_setparam sched_getparam sched_setscheduler sched_getscheduler
		sched_get_priority_max sched_get_priority_min sched_rr_get_interval
		sched_setaffinity sched_getaffinity sched_setattr sched_getattr getcpu
		uname sysinfo getrandom

		connect accept accept4 sendto recvfrom sendmsg sendmmsg recvmsg recvmmsg shutdown bind listen
		getsockname getpeername setsockopt getsockopt
	`)
}

// denied are the calls that programs may try and are to be told no.
func denied() []string {
	return strings.Fields(`
		mount umount2 pivot_root open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick
		mount_setattr setns swapon swapoff quotactl quotactl_fd acct
		reboot kexec_load kexec_file_load init_module finit_module delete_module
		settimeofday clock_settime sethostname setdomainname vhangup syslog ioperm iopl
		ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp
		add_key request_key keyctl bpf perf_event_open userfaultfd memfd_secret
		io_uring_setup io_uring_enter io_uring_register
		name_to_handle_at open_by_handle_at fanotify_init fanotify_mark lookup_dcookie
		mbind set_mempolicy get_mempolicy set_mempolicy_home_node migrate_pages move_pages
		modify_ldt uselib ustat sysfs vmsplice lsm_set_self_attr
	`)
}
