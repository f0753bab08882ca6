package program

import (
	"errors"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// start runs the program to its end and returns the child, whose events tell
// what happened, and the error that ended it.
func start(t *testing.T, p *Program) (*Child, error) {
	t.Helper()
	c, err := p.Start(Clone{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		c.Close()
		unix.Close(c.Pidfd)
	})
	_, err = c.Done()
	return c, err
}

// labels are the events as text: "label" or "label=ERRNO".
func labels(c *Child) []string {
	var s []string
	for _, e := range c.Events {
		if e.Errno != 0 {
			s = append(s, e.Label+"="+unix.ErrnoName(e.Errno))
		} else {
			s = append(s, e.Label)
		}
	}
	return s
}

func TestFailureNamesTheOperation(t *testing.T) {
	p := &Program{}
	p.Umask(0o22)
	p.Chdir("/no/such/folder").Because("go somewhere")
	p.Umask(0).Report("never")
	c, err := start(t, p)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want *Error", err)
	}
	if e.Index != 1 || e.Errno != unix.ENOENT || e.Call != `chdir("/no/such/folder")` {
		t.Errorf("error %+v", e)
	}
	if got, want := err.Error(), "go somewhere: no such file or directory"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	if !errors.Is(err, unix.ENOENT) || len(c.Events) != 0 {
		t.Errorf("error %v, events %v", err, c.Events)
	}
}

func TestOutcomesDecide(t *testing.T) {
	dir := t.TempDir()
	p := &Program{}
	root := p.Openat(Cwd(), dir, unix.O_PATH|unix.O_DIRECTORY)
	first := p.Openat2(root.Result(), "new", unix.O_PATH|unix.O_DIRECTORY, 0, 0).Allow(unix.ENOENT).Report("first")
	p.Umask(0).IfOK(first).Report("skipped")
	skipped := p.Mkdirat(root.Result(), "never", 0o755).IfOK(first)
	p.Umask(0).IfOK(skipped).Report("after skipped, ok")
	p.Umask(0).IfFailed(skipped).Report("after skipped, failed")
	p.Mkdirat(root.Result(), "new", 0o755).IfFailed(first).Report("made")
	p.Openat2(root.Result(), "new", unix.O_PATH|unix.O_DIRECTORY, 0, 0).IfFailed(first).As(first).Report("second")
	p.Fchdir(first.Result()).IfOK(first).Report("used")
	p.Chdir("/no/such/folder").Allow().Report("any error")
	c, err := start(t, p)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"first=ENOENT", "made", "second", "used", "any error=ENOENT"}
	if got := labels(c); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func TestUnexpectedResultsAreFailures(t *testing.T) {
	t.Run("number", func(t *testing.T) {
		p := &Program{}
		p.Add("getppid", unix.SYS_GETPPID).Want(uintptr(os.Getpid())).Report("parent")
		p.Add("getppid", unix.SYS_GETPPID).Want(0).Because("be nobody's child")
		c, err := start(t, p)
		if !errors.Is(err, unix.EPROTO) || len(c.Events) != 1 || c.Events[0].Value != uint64(os.Getpid()) {
			t.Errorf("error %v, events %v", err, c.Events)
		}
	})
	t.Run("memory", func(t *testing.T) {
		p := &Program{}
		buf := p.Buffer(unix.PathMax)
		p.Add("getcwd", unix.SYS_GETCWD, buf, Num(unix.PathMax)).WantFirst(buf, '/').Report("absolute")
		p.Add("getcwd", unix.SYS_GETCWD, buf, Num(unix.PathMax)).WantFirst(buf, '(')
		c, err := start(t, p)
		if !errors.Is(err, unix.EPROTO) || len(c.Events) != 1 {
			t.Errorf("error %v, events %v", err, c.Events)
		}
	})
}

// output runs the program, which executes something with stdout as its stdout,
// and returns what that wrote.
func output(t *testing.T, build func(p *Program, stdout Arg)) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := &Program{}
	build(p, p.FD(int(w.Fd()), "stdout"))
	c, err := p.Start(Clone{})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	defer c.Close()
	defer unix.Close(c.Pidfd)
	if executed, err := c.Done(); err != nil || !executed {
		t.Fatalf("Done() = %v, %v; events %v", executed, err, c.Events)
	}
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	c.Kill() // reaps
	return b.String()
}

func TestExecutedProgramHasDefaultSignalsAndNoFiles(t *testing.T) {
	signal.Ignore(unix.SIGHUP, unix.SIGUSR2)
	defer signal.Reset(unix.SIGHUP, unix.SIGUSR2)
	secret, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	if _, err := unix.FcntlInt(secret.Fd(), unix.F_SETFD, 0); err != nil { // as a careless caller leaves it
		t.Fatal(err)
	}
	out := output(t, func(p *Program, stdout Arg) {
		p.Dup3(stdout, 1, false)
		argv := p.Strings([]string{"sh", "-c", "cat /proc/self/status; for f in /proc/self/fd/*; do echo $f; done"}, "argv")
		p.Execve("/bin/sh", argv, p.Strings([]string{"PATH=/bin:/usr/bin"}, "envp"), "exec")
	})
	for _, set := range []string{"SigBlk", "SigIgn", "SigCgt"} {
		if !strings.Contains(out, set+":\t0000000000000000") {
			t.Errorf("%s is not empty:\n%s", set, out)
		}
	}
	for n := range 3 {
		out = strings.Replace(out, "/proc/self/fd/"+strconv.Itoa(n)+"\n", "", 1)
	}
	if i := strings.Index(out, "/proc/self/fd/"); i >= 0 && strings.Count(out, "/proc/self/fd/") > 1 { // 3: the folder itself
		t.Errorf("files are left open:\n%s", out[i:])
	}
}

func TestOnlyNamedFilesReachTheProgram(t *testing.T) {
	named, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	other, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p := &Program{}
	p.Fchdir(p.FD(int(named.Fd()), "root")).Report("named")
	p.Fchdir(Num(int(other.Fd()))).Allow(unix.EBADF).Report("other")
	p.CloseFiles()
	p.Fchdir(Num(int(named.Fd()))).Allow(unix.EBADF).Report("closed")
	c, err := start(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := labels(c), []string{"named", "other=EBADF", "closed=EBADF"}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func TestChildWaitsForItsParent(t *testing.T) {
	p := &Program{}
	p.Umask(0).Report("before")
	p.Wait("here")
	p.Umask(0).Report("after")
	c, err := p.Start(Clone{})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.Pidfd)
	if err := c.Until("here"); err != nil || len(c.Events) != 1 {
		t.Fatalf("Until: %v, events %v", err, c.Events)
	}
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	if executed, err := c.Done(); executed || err != nil || len(c.Events) != 2 {
		t.Errorf("Done() = %v, %v, events %v", executed, err, c.Events)
	}
	c.Close()
	c.Kill()
}

func TestChildEndsWithItsParent(t *testing.T) {
	p := &Program{}
	p.Wait("here")
	c, err := p.Start(Clone{})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.Pidfd)
	if err := c.Until("here"); err != nil {
		t.Fatal(err)
	}
	unix.Close(c.release) // what the kernel does when the parent dies
	c.release = -1
	if _, err := c.Done(); !errors.Is(err, unix.EPIPE) {
		t.Errorf("Done: %v, want %v", err, unix.EPIPE)
	}
	c.Kill()
	c.Close()
}

func TestForkGoesOnAsChildOfTheParent(t *testing.T) {
	p := &Program{}
	p.Fork(unix.CLONE_PARENT | uintptr(unix.SIGCHLD))
	p.Add("getppid", unix.SYS_GETPPID).Want(uintptr(os.Getpid()))
	p.Add("getpid", unix.SYS_GETPID).Report("pid")
	p.Wait("here")
	c, err := p.Start(Clone{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first := c.PID
	if err := c.Until("here"); err != nil {
		t.Fatal(err)
	}
	if e, _ := c.Reported("pid"); c.PID == first || int(e.Value) != c.PID {
		t.Errorf("PID %d after %d, the process says %d", c.PID, first, e.Value)
	}
	if err := unix.Kill(first, 0); err != unix.ESRCH {
		t.Errorf("the process that forked is not reaped: %v", err)
	}
	c.Kill()
	unix.Close(c.Pidfd)
	if err := unix.Kill(c.PID, 0); err != unix.ESRCH {
		t.Errorf("the killed process is not reaped: %v", err)
	}
}

func TestPrinter(t *testing.T) {
	p := &Program{}
	fd := p.Openat2(p.FD(7, "root"), "etc/\"hosts\"", unix.O_PATH, 0, unix.RESOLVE_IN_ROOT).
		Allow(unix.ENOENT, unix.ENOTDIR).Because("find a file")
	p.Mkdirat(Cwd(), "a", 0o755).IfFailed(fd).As(fd).Report("made")
	p.Wait("news")
	p.Setgroups([]uint32{5, 6})
	got := p.String()
	for _, want := range []string{
		`  0  openat2(7<root>, "etc/\"hosts\"", {O_PATH|O_CLOEXEC, RESOLVE_IN_ROOT}, 24) or ENOENT|ENOTDIR # find a file` + "\n",
		`  1  if #0 failed: #0 = mkdirat(AT_FDCWD, "a", 0755) -> made` + "\n",
		`  2  read(parent) until released: news` + "\n",
		`  3  setgroups(2, [5, 6])` + "\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("program\n%slacks %q", got, want)
		}
	}
}

func TestGaps(t *testing.T) {
	for _, test := range []struct {
		keep []int
		want []gap
	}{
		{nil, []gap{{3, maxFD}}},
		{[]int{0, 1, 2}, []gap{{3, maxFD}}},
		{[]int{9, 3, 4}, []gap{{5, 8}, {10, maxFD}}},
		{[]int{5, 5, 7}, []gap{{3, 4}, {6, 6}, {8, maxFD}}},
	} {
		if got := gaps(3, test.keep); !slices.Equal(got, test.want) {
			t.Errorf("gaps(%v) = %v, want %v", test.keep, got, test.want)
		}
	}
}

func TestOpenat2IsTriedAgainWhileSomebodyRenames(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "program") // where renaming is quick
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/x", 0o755); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for from, to := dir+"/x", dir+"/y"; ; from, to = to, from {
			select {
			case <-stop:
				return
			default:
				_ = unix.Rename(from, to)
			}
		}
	}()
	p := &Program{}
	root := p.Openat(Cwd(), dir, unix.O_PATH|unix.O_DIRECTORY)
	for range 2000 {
		fd := p.Openat2(root.Result(), strings.Repeat("a/b/../../", 8)+"a", unix.O_PATH, 0, unix.RESOLVE_IN_ROOT)
		p.Close(fd.Result())
	}
	_, err = start(t, p)
	close(stop)
	<-stopped
	if err != nil {
		t.Error(err)
	}
}
