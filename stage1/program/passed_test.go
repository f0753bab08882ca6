package program

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// files makes n files whose content is their index, with numbers from min on, in
// falling order: some are where others are to be.
func files(t *testing.T, n, min int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		low, err := unix.MemfdCreate("passed", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		f, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, min)
		unix.Close(low)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(f) })
		if _, err := unix.Pwrite(f, fmt.Appendf(nil, "%d;", i), 0); err != nil {
			t.Fatal(err)
		}
		fds[i] = f
	}
	slices.SortFunc(fds, func(a, b int) int { return b - a })
	return fds
}

// The files reach the program as 3, 4 and so on whatever their numbers were, and
// however many there are: also where the pipes to the parent would be.
func TestPassedFilesHaveTheirNumbersAndNothingElseIsOpen(t *testing.T) {
	for _, test := range [][2]int{{0, 0}, {1, 0}, {2, 0}, {60, 0}, {60, 100}} {
		t.Run(fmt.Sprint(test), func(t *testing.T) { passFiles(t, test[0], test[1]) })
	}
}

func passFiles(t *testing.T, n, min int) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fds := files(t, n, min)
	want := ""
	for i := range n {
		want += fmt.Sprintf("%d:%d; ", 3+i, n-1-i)
	}
	want += "pid\n"
	p := &Program{}
	p.Dup3(p.FD(int(in.Fd()), "out"), 1, false)
	p.PassFiles(fds, "pass files")
	p.CloseFiles()
	p.Umask(0).Report("reached the parent")
	text := p.PIDText("SELF=")
	p.WritePID(text)
	const script = `i=3; while [ $i -lt 90 ]; do [ -e /proc/$$/fd/$i ] && printf '%s:%s ' $i "$(cat /proc/$$/fd/$i)"; i=$((i + 1)); done; [ $SELF = $$ ] && echo pid`
	p.Execve("/bin/sh", p.Strings([]string{"sh", "-c", script}, "argv"), p.Strings([]string{"PATH=/bin:/usr/bin"}, "envp", text), "exec")
	c, err := start(t, p)
	if err != nil || !slices.Contains(labels(c), "reached the parent") {
		t.Fatalf("the parent was told %v, %v", labels(c), err)
	}
	in.Close()
	got, err := io.ReadAll(out)
	out.Close()
	if err != nil || string(got) != want {
		t.Errorf("%d files: the process sees %q, %v, want %q", n, got, err, want)
	}
}

func TestWriteDecimal(t *testing.T) {
	for n, want := range map[uintptr]string{0: "0", 1: "1", 9: "9", 10: "10", 4194304: "4194304", 123: "123"} {
		b := make([]byte, maxPIDDigits+1)
		for i := range b {
			b[i] = 'x'
		}
		writeDecimal(&b[0], n)
		if got, _, _ := strings.Cut(string(b), "\x00"); got != want {
			t.Errorf("writeDecimal(%d) writes %q", n, got)
		}
	}
}
