package cas

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Processes that are started while files are written and committed have those
// files for a moment; that is nobody's writing.
func TestCommitWhileProcessesAreStarted(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := s.Ingest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
				cmd := exec.Command("/bin/true")
				// In a namespace it waits for its ids before it is executed.
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{Size: 1}}}
				_ = cmd.Run()
			}
		}
	}()
	defer func() { close(done); <-stopped }()
	for i := range 200 {
		if _, err := in.Put(context.Background(), fmt.Appendf(nil, "blob %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	// Who does write is still found.
	f, err := os.Create(in.Path() + "/open")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := in.Commit(context.Background(), "open", Of(nil)); err == nil {
		t.Error("a file that is open for writing was committed")
	}
}
