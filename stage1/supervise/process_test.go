package supervise

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNumberOfAThread opens a process whose number a thread has by now.
func TestNumberOfAThread(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	tids := make(chan int)
	end := make(chan struct{})
	defer close(end)
	for range 2 { // one of them is not the first thread
		go func() {
			runtime.LockOSThread()
			tids <- unix.Gettid()
			<-end
		}()
	}
	n := max(<-tids, <-tids)
	if _, err := openProcess(n, 1, boot); !errors.Is(err, errGone) {
		t.Errorf("openProcess() = %v, want %v", err, errGone)
	}
}
