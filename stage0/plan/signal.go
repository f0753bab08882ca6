package plan

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Numbers of the real-time signals as libcs show them: the two below are theirs.
const (
	sigRTMin = 34
	sigRTMax = 64
)

// stopSignal is the signal that asks an app to end: the operator's, the
// image's, or SIGTERM.
func stopSignal(a *App) (int, error) {
	name := a.Image.Config.StopSignal
	if a.StopSignal != "" {
		name = a.StopSignal
	}
	if name == "" {
		return int(unix.SIGTERM), nil
	}
	n, err := parseSignal(name)
	if err != nil {
		return 0, fmt.Errorf("stop signal: %w", err)
	}
	return n, nil
}

// parseSignal reads a number, a name with SIG or without, or RTMIN+n, RTMAX-n.
func parseSignal(s string) (int, error) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, fmt.Errorf("%q is not between 1 and %d", s, sigRTMax)
		}
		return int(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return int(n), nil
	}
	for _, base := range []struct {
		name string
		at   int
	}{{"RTMIN", sigRTMin}, {"RTMAX", sigRTMax}} {
		rest, ok := strings.CutPrefix(name, base.name)
		if !ok {
			continue
		}
		if rest == "" {
			return base.at, nil
		}
		offset, err := strconv.ParseInt(rest, 10, 8)
		signed := rest[0] == '+' || rest[0] == '-'
		if n := base.at + int(offset); err == nil && signed && n >= sigRTMin && n <= sigRTMax {
			return n, nil
		}
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}
