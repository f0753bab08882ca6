package supervise

import (
	"fmt"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

const (
	// journalPatience is how long the journal may take for one entry. Then entries
	// are offered without waiting until it takes one again; others are lost and
	// counted. No app hangs for good because of its log.
	journalPatience = 5 * time.Second
	// journalRetry is how often a journal that is not there is looked for.
	journalRetry = 50 * time.Millisecond
	// journalSync bounds the wait at the end of the pod until the journal has read
	// what was sent.
	journalSync = time.Second
)

// journal is the socket of the journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
// Datagrams have no connection that a restart of the journal could break: what
// it has not read yet waits in its socket, which systemd keeps open.
type journal struct {
	sync.Mutex
	fd      int // -1 = not opened yet
	address unix.RawSockaddrUnix
	header  unix.Msghdr
	parts   [4]unix.Iovec
	silent  bool   // it did not take the last entry
	lost    uint64 // entries that it did not take
	sent    bool
}

func newJournal(socket string) (*journal, error) {
	j := &journal{fd: -1}
	j.address.Family = unix.AF_UNIX
	if len(socket) >= len(j.address.Path) {
		return nil, fmt.Errorf("the path of the journal's socket is too long: %q", socket)
	}
	for i := range len(socket) {
		j.address.Path[i] = int8(socket[i])
	}
	j.header.Name, j.header.Namelen = (*byte)(unsafe.Pointer(&j.address)), uint32(unsafe.Sizeof(j.address))
	j.header.Iov = &j.parts[0]
	return j, nil
}

// open makes the socket. A send blocks for journalPatience at most.
func (j *journal) open() error {
	if j.fd >= 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	patience := unix.NsecToTimeval(int64(journalPatience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		unix.Close(fd)
		return err
	}
	j.fd = fd
	return nil
}

// send sends an entry made of the parts, of which the first names its pod. It
// allocates nothing: what apps print is not to make the supervisor grow.
func (j *journal) send(parts ...[]byte) {
	j.Lock()
	defer j.Unlock()
	if err := j.deliver(parts); err != nil {
		j.silent = true
		j.lost++
		return
	}
	if j.sent, j.silent = true, false; j.lost == 0 {
		return
	}
	text := fmt.Appendf(nil, "PRIORITY=4\nMESSAGE=%d lines of the pod are lost: the journal did not take them\n", j.lost)
	if j.deliver([][]byte{parts[0], text}) == nil {
		j.lost = 0
	}
}

// deliver sends one datagram, and waits for a journal that does not read or is
// not there, once.
func (j *journal) deliver(parts [][]byte) error {
	if err := j.open(); err != nil {
		return err
	}
	flags := unix.MSG_NOSIGNAL
	if j.silent {
		flags |= unix.MSG_DONTWAIT
	}
	for begin := time.Now(); ; time.Sleep(journalRetry) {
		err := j.write(parts, flags)
		switch err {
		case unix.EMSGSIZE, unix.ENOBUFS:
			return j.deliverFile(parts, flags)
		case unix.ENOENT, unix.ECONNREFUSED: // it is being restarted, with its socket
			if !j.silent && time.Since(begin) < journalPatience {
				continue
			}
		}
		return err
	}
}

// write is sendmsg(2).
func (j *journal) write(parts [][]byte, flags int) error {
	n := 0
	for _, p := range parts {
		if len(p) > 0 {
			j.parts[n].Base = &p[0]
			j.parts[n].SetLen(len(p))
			n++
		}
	}
	j.header.SetIovlen(n)
	for {
		_, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(j.fd), uintptr(unsafe.Pointer(&j.header)), uintptr(flags))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// deliverFile sends an entry that is too large for a datagram, as a file in
// memory that nobody can change any more.
func (j *journal) deliverFile(parts [][]byte, flags int) error {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, p := range parts {
		if n, err := unix.Write(fd, p); err != nil || n < len(p) {
			return unix.ENOSPC
		}
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	rights := unix.UnixRights(fd)
	j.header.Control = &rights[0]
	j.header.SetControllen(len(rights))
	defer func() { j.header.Control = nil; j.header.SetControllen(0) }()
	return j.write(nil, flags)
}

// sync returns when the journal has read all that was sent, or after
// journalSync. The journal finds out by the pid in which unit an entry was
// written, so a supervisor that is gone by then would have its last ones in none.
func (j *journal) sync() {
	j.Lock()
	defer j.Unlock()
	if !j.sent || j.silent {
		return
	}
	// The journal ignores an empty datagram, and reads it when it is done with all
	// before it.
	if j.write(nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT) != nil {
		return
	}
	wait := 100 * time.Microsecond
	for begin := time.Now(); time.Since(begin) < journalSync; time.Sleep(wait) {
		if left, err := unix.IoctlGetInt(j.fd, unix.SIOCOUTQ); err != nil || left == 0 {
			return
		}
		wait = min(2*wait, 10*time.Millisecond)
	}
}

// behind says whether it has not taken everything.
func (j *journal) behind() bool {
	j.Lock()
	defer j.Unlock()
	return j.silent || j.lost > 0
}

// podJournal is the journal for the apps of a pod; nil = they do not write there.
type podJournal struct {
	*journal
	conf *contract.Journal
	pod  *contract.Pod
}

func newPodJournal(host *contract.Host, pod *contract.Pod) (*podJournal, error) {
	if host.Journal == nil {
		return nil, nil
	}
	j, err := newJournal(host.Journal.Socket)
	if err != nil {
		return nil, err
	}
	return &podJournal{j, host.Journal, pod}, nil
}

// takes says whether the journal takes what leads to the caller's stream fd.
func (j *podJournal) takes(fd int) bool {
	return j != nil && (fd == 1 && j.conf.Stdout || fd == 2 && j.conf.Stderr)
}

// writer takes the lines of a stream of an app.
func (j *podJournal) writer(app *contract.App, fd int) *journalWriter {
	var head []byte
	for _, f := range [][2]string{
		{"SYSLOG_IDENTIFIER", app.Name},
		{"RKT_POD", j.pod.UUID},
		{"RKT_POD_NAME", j.pod.Name},
		{"RKT_APP", app.Name},
		{"RKT_IMAGE", app.Image.Reference},
		{"RKT_IMAGE_ID", app.Image.ID},
		{"RKT_STREAM", streamNames[fd]},
	} {
		if f[1] != "" {
			head = appendField(head, f[0], f[1])
		}
	}
	return &journalWriter{journal: j.journal, head: head}
}

// finish waits for the journal at the end of the pod.
func (j *podJournal) finish() {
	if j != nil {
		j.sync()
	}
}
