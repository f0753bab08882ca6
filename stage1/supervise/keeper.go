package supervise

import (
	"sync/atomic"
)

// keeper is a goroutine that serves a file for as long as that is open. It can be
// held between two reads, with nothing taken from the file that is not passed on.
type keeper struct {
	serve     func() // returns when leaves says so, or for good
	interrupt func() // ends a wait for the file, and each wait from now on
	clear     func() // undoes interrupt
	stage     atomic.Int32
	done      chan struct{} // closed when serve has returned
}

// The stages of a keeper.
const (
	serving int32 = iota
	held          // it is to leave
	left          // it leaves, or has left
	ending        // it is to pass on what is there, and to leave
)

func (k *keeper) start() {
	done := make(chan struct{})
	k.done = done
	go func() {
		defer close(done)
		k.serve()
	}()
}

// leaves says, to serve after an interrupt, whether it is to return.
func (k *keeper) leaves() bool { return k.stage.CompareAndSwap(held, left) }

// hold asks the goroutine to leave; done tells when it has.
func (k *keeper) hold() {
	k.stage.Store(held)
	k.interrupt()
}

// resume undoes hold, however far that has come.
func (k *keeper) resume() {
	k.clear()
	if k.stage.CompareAndSwap(held, serving) {
		return // it has not noticed, and goes on
	}
	<-k.done
	k.stage.Store(serving)
	k.start()
}
