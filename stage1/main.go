// stage1 performs what stage0 has decided: it runs the pod whose directory is
// its working directory. It is not for users; docs/stage1-contract.md says how
// it is called.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/internal/sealed"
	"rkt/stage1/contract"
	"rkt/stage1/fly"
	"rkt/stage1/supervise"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run carries out one entrypoint, which the manifest of the flavour names, and
// returns the exit code.
func run(args []string) int {
	var flavour supervise.Flavour = &supervise.Native{}
	if len(args) > 0 && args[0] == "fly" {
		flavour, args = fly.Flavour{}, args[1:]
	}
	if len(args) == 0 {
		return supervise.Fail(errors.New("no entrypoint given"))
	}
	entry, args := args[0], args[1:]
	if entry == contract.EntryRun || entry == contract.EntryEnter {
		// Whoever gets hold of this process from inside of a pod gets no way to
		// write to its program.
		if err := sealed.Ensure(); err != nil {
			return supervise.Fail(err)
		}
		// Sealed programs are executed by fd, whose number would be the name.
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(unsafe.StringData("stage1\x00"))), 0, 0, 0)
	}
	switch entry {
	case contract.EntryRun:
		memory, err := resumed(args)
		if err != nil {
			return supervise.Fail(err)
		}
		return supervise.Run(flavour, memory)
	case contract.EntryEnter:
		return supervise.Enter(flavour)
	case contract.EntryStop:
		return supervise.Fail(supervise.Stop(len(args) > 0 && args[0] == "--force"))
	case contract.EntryGC:
		return supervise.Fail(supervise.GC())
	case contract.EntryExplain:
		return supervise.Fail(supervise.Explain(flavour, os.Stdout))
	}
	return supervise.Fail(fmt.Errorf("unknown entrypoint %q", entry))
}

// resumed is the file of a supervisor that executes itself again, 0 without one.
func resumed(args []string) (int, error) {
	if len(args) == 0 {
		return 0, nil
	}
	number, ok := strings.CutPrefix(args[0], supervise.ResumeFlag)
	memory, err := strconv.Atoi(number)
	if !ok || err != nil || memory <= contract.LockFD || len(args) > 1 {
		return 0, fmt.Errorf("unexpected arguments %q", args)
	}
	return memory, nil
}
