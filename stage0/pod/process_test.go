package pod

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNumberOfAThread opens a process whose number a thread has by now.
func TestNumberOfAThread(t *testing.T) {
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
	if _, ok, err := openProcess(n, 1); ok || err != nil {
		t.Errorf("openProcess() = %t, %v, want a process that is over", ok, err)
	}
}
