package compile

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/program"
)

// confinement is what becomes of a process that is in its namespaces and in the
// app's root: alike for a start and an enter.
type confinement struct {
	process *specs.Process // the app's
	user    specs.User
	args    []string
	env     []string
	cwd     string
	command []string // candidates for execve
	init    bool
	console bool // make the terminal /dev/console too
	common  *Common
}

// confine takes from the process, step by step, what the app may not have, and
// executes the app.
//
// Without no_new_privs a seccomp filter needs CAP_SYS_ADMIN and so comes before
// the change of user. In any case it comes as late as it can, because it need
// not allow what is done before.
func confine(p *program.Program, c confinement) error {
	caps, err := parseCapabilities(c.process.Capabilities, c.user.UID)
	if err != nil {
		return err
	}
	if len(c.common.Seccomp)%8 != 0 || len(c.common.Seccomp)/8 > 1<<16-1 {
		return errors.New("seccomp filter is not a list of instructions")
	}
	if len(c.args) == 0 || len(c.command) == 0 {
		return errors.New("no command to run")
	}
	if !c.common.Terminal {
		inheritStdio(p, c.common.Stdio)
	}
	if len(c.common.Files) > 0 {
		p.PassFiles(c.common.Files, "set up the sockets that are passed on")
	}
	p.CloseFiles().Because("close everything of the host's")
	if c.common.Terminal {
		openTerminal(p, c)
	}
	p.JoinSessionKeyring().Allow(unix.ENOSYS, unix.EPERM, unix.EACCES, unix.EDQUOT).Report(ReportKeyring).
		Because("leave the caller's keyrings")
	if err := setRlimits(p, c.process.Rlimits, &c.common.Rlimits); err != nil {
		return err
	}
	umask := uint32(0o022)
	if c.user.Umask != nil {
		umask = *c.user.Umask
	}
	p.Umask(umask).Because("set the umask")

	keep := c.common.KeepCapabilities && c.process.Capabilities == nil
	if !keep {
		dropBounding(p, caps.bounding)
	}
	p.Setgroups(c.user.AdditionalGids).Because("set the groups")
	p.Setresgid(c.user.GID).Because("set the group")
	if !c.process.NoNewPrivileges {
		filter(p, c.common.Seccomp)
	}
	p.Setresuid(c.user.UID).Because("set the user")
	if !keep {
		p.Capset(caps.effective, caps.permitted, 0).Because("set the capabilities")
	}
	changeDir(p, c.cwd)
	if c.process.NoNewPrivileges {
		p.Prctl(unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", program.Num(1)).Because("rule out new privileges")
		filter(p, c.common.Seccomp)
	}
	p.Wait(WaitExec)
	if c.init {
		p.Init().Because("stay as the app's init")
	}
	p.Setsid().Because("begin a session")
	if c.common.Terminal {
		p.Ioctl(program.Num(0), unix.TIOCSCTTY, "TIOCSCTTY", program.Num(0)).Because("make the terminal the session's")
	}
	execute(p, c)
	return nil
}

// inheritStdio gives the process the files that are to be 0, 1 and 2. A file
// that has such a number already is first moved out of the way.
func inheritStdio(p *program.Program, files [3]int) {
	const why = "set up stdin, stdout and stderr"
	var args [3]program.Arg
	for i, fd := range files {
		args[i] = p.FD(fd, [3]string{"stdin", "stdout", "stderr"}[i])
		if fd < 3 && fd != i {
			args[i] = p.DupAbove(args[i], 3).Because(why).Result()
		}
	}
	for i, fd := range files {
		if fd == i {
			p.KeepOnExec(args[i]).Because(why)
		} else {
			p.Dup3(args[i], i, false).Because(why)
		}
	}
}

// openTerminal makes a pty of the app's own devpts its stdin, stdout and
// stderr. The terminal of whoever started the pod never gets into it (TIOCSTI).
func openTerminal(p *program.Program, c confinement) {
	const why = "open a terminal"
	master := p.Openat2(program.Cwd(), "dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0, noLinks).Report(ReportTerminal).Because(why)
	p.Ioctl(master.Result(), unix.TIOCSPTLCK, "TIOCSPTLCK", program.Pointer(p, new(int32), "0")).Because(why)
	slave := p.Ioctl(master.Result(), unix.TIOCGPTPEER, "TIOCGPTPEER",
		program.Named(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, "O_RDWR|O_NOCTTY|O_CLOEXEC")).Because(why)
	p.Fchown(slave.Result(), int(c.user.UID), -1).Because("give the user the terminal")
	if c.console {
		const why = `make the terminal "/dev/console"`
		console := p.Openat2(program.Cwd(), "dev/console", unix.O_PATH, 0, noLinks).Because(why)
		tree := p.OpenTree(slave.Result(), "", false).Because(why)
		p.MoveMount(tree.Result(), console.Result()).Because(why)
		p.Close(tree.Result())
		p.Close(console.Result())
	}
	for fd := range 3 {
		p.Dup3(slave.Result(), fd, false).Because("set up stdin, stdout and stderr")
	}
	p.Close(slave.Result())
}

// changeDir goes to the working directory as the app's user, when no file of
// the host's is open any more, and sees that it is below the root: the kernel
// names any other place "(unreachable)/...".
func changeDir(p *program.Program, cwd string) {
	why := fmt.Sprintf("change to the working directory %q", cwd)
	p.Chdir(cwd).Because(why)
	buf := p.Buffer(unix.PathMax)
	p.Add("getcwd", unix.SYS_GETCWD, buf, program.Num(unix.PathMax)).WantFirst(buf, '/').Because(why)
}

// filter installs the seccomp filter, if there is one.
func filter(p *program.Program, code []byte) {
	if len(code) > 0 {
		p.Seccomp(code).Because("filter system calls")
	}
}

// execute tries the candidates in their order. What remains tells why none
// could be executed: a file that is there and yet not found lacks its
// interpreter.
func execute(p *program.Program, c confinement) {
	pids := make([]program.Arg, len(c.common.PIDVariables))
	for i, name := range c.common.PIDVariables {
		pids[i] = p.PIDText(name + "=")
		p.WritePID(pids[i]).Because("tell the app its process number")
	}
	argv, envp := p.Strings(c.args, "argv"), p.Strings(c.env, "envp", pids...)
	for _, path := range c.command {
		exec := p.Execve(path, argv, envp, reportExec+path).Because("execute the app")
		p.Exists(path).IfFailed(exec).Allow().Report(reportExists + path).Because("find out why not")
	}
}

// checkStrings refuses what would end early as a C string.
func checkStrings(lists ...[]string) error {
	for _, list := range lists {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return fmt.Errorf("%q holds a zero byte", s)
			}
		}
	}
	return nil
}
