package stage0

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// journals is the folder of the host's journal; one of a namespace (LogNamespace=
// in systemd.exec(5)) is in a folder of this name with a suffix.
const journals = "/run/systemd/journal"

// callersJournal says which of the output streams of this process lead to a
// journal, nil if none does. It looks at where they are connected: the variable
// JOURNAL_STREAM tells no more, is of one stream only, and may be inherited from
// a service that this process is no part of.
func callersJournal() *contract.Journal {
	out, err := journalBehind(1), journalBehind(2)
	j := &contract.Journal{Socket: out, Stdout: out != ""}
	if out == "" {
		j.Socket = err
	}
	if j.Socket == "" {
		return nil
	}
	j.Stderr = err == j.Socket
	return j
}

// journalBehind is the socket for entries of the journal that fd leads to, "" if
// it leads to none.
func journalBehind(fd int) string {
	peer, err := unix.Getpeername(fd)
	address, ok := peer.(*unix.SockaddrUnix)
	if err != nil || !ok || filepath.Base(address.Name) != "stdout" {
		return ""
	}
	dir := filepath.Dir(address.Name)
	if dir != journals && !strings.HasPrefix(dir, journals+".") {
		return ""
	}
	return filepath.Join(dir, "socket")
}

// Name is the name of the pod, "" if it has none.
func (p *Prepared) Name() string { return p.sandbox.Name }

// IsMachine says whether the first app of the pod is the first process of a
// process tree of its own, as others expect of a machine.
func (p *Prepared) IsMachine() bool { return p.apps[0].app.PID == contract.PIDOwn }
