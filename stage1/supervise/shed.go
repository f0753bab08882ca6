package supervise

import (
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// shedAfter is how long a pod runs before its supervisor lets go of the memory
// that only the start needed. Most pods that live shorter never pay for it.
const shedAfter = 2 * time.Second

// shed gives back what the start left on the heap and unmaps the pages of the
// program itself that are in memory: they stay in the page cache, and the few
// that a waiting supervisor touches come back. It collects once only: a second
// collection costs more memory than it finds.
func shed() {
	debug.FreeOSMemory()
	b, err := readFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		// start-end perms offset device inode path
		f := strings.Fields(line)
		if len(f) < 6 || f[4] == "0" || strings.Contains(f[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && start < end {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
		}
	}
}
