package stage0

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"rkt/internal/filelock"
	"rkt/internal/safepath"
	"rkt/stage0/plan"
	"rkt/stage1/contract"
)

// The ids of pods: within the range that systemd, too, keeps for containers.
const (
	firstID = 524288
	lastID  = 1879048191
)

// idsDir in the run directory holds the claims on id ranges: files named by the
// first id, with the UUID of the pod in them.
const idsDir = "ids"

// ErrNoIDs reports that all id ranges are in use.
var ErrNoIDs = errors.New("all ranges of user ids are in use")

// idRange is a run of ids of the host.
type idRange struct{ first, count uint64 }

func (r idRange) overlaps(s idRange) bool {
	return r.first < s.first+s.count && s.first < r.first+r.count
}

// claimIDs gives the pod a range of user and group ids that no other pod has
// and that is in no line of /etc/subuid and /etc/subgid. It returns the map and
// the claim, a file to remove when the pod is over. Nothing on disk belongs to
// these ids, so a range is free as soon as nothing of the pod is alive.
func (e *Env) claimIDs(ctx context.Context, uuid string) (ids []contract.IDMap, claim string, err error) {
	taken, err := subordinate("/etc/subuid", "/etc/subgid")
	if err != nil {
		return nil, "", err
	}
	dir := filepath.Join(e.RunDir, idsDir)
	if err := os.MkdirAll(e.RunDir, 0o700); err != nil { // the first pod of a boot may be the first that needs it
		return nil, "", fmt.Errorf("make run directory: %w", err)
	}
	if err := safepath.PrivateDir(dir); err != nil {
		return nil, "", fmt.Errorf("make registry of id ranges: %w", err)
	}
	lock, err := filelock.Open(dir)
	if err != nil {
		return nil, "", fmt.Errorf("open registry of id ranges: %w", err)
	}
	defer lock.Close()
	if err := lock.Exclusive(ctx); err != nil {
		return nil, "", fmt.Errorf("lock registry of id ranges: %w", err)
	}
	first, err := freeRange(dir, taken)
	if err != nil {
		return nil, "", err
	}
	claim = filepath.Join(dir, strconv.FormatUint(first, 10))
	if err := writeNew(claim, []byte(uuid+"\n"), 0o600); err != nil {
		os.Remove(claim)
		return nil, "", fmt.Errorf("claim id range: %w", &os.PathError{Op: "write", Path: claim, Err: err})
	}
	return []contract.IDMap{{Inside: 0, Outside: uint32(first), Count: plan.RangeSize}}, claim, nil
}

// freeRange finds the first range without a claim and outside of all taken
// ones. The registry is locked: an empty claim is what a killed rkt left.
func freeRange(dir string, taken []idRange) (uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("read registry of id ranges: %w", err)
	}
	claimed := make(map[string]bool, len(entries))
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.Size() > 0 {
			claimed[entry.Name()] = true
		}
	}
next:
	for first := uint64(firstID); first+plan.RangeSize-1 <= lastID; first += plan.RangeSize {
		if claimed[strconv.FormatUint(first, 10)] {
			continue
		}
		for _, r := range taken {
			if r.overlaps(idRange{first, plan.RangeSize}) {
				continue next
			}
		}
		return first, nil
	}
	return 0, ErrNoIDs
}

// subordinate reads the ranges of subuid(5) and subgid(5) files. Missing files
// and lines that do not parse are nobody's.
func subordinate(files ...string) ([]idRange, error) {
	var ranges []idRange
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read subordinate ids: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if len(f) != 3 {
				continue
			}
			first, err := strconv.ParseUint(f[1], 10, 32)
			count, err2 := strconv.ParseUint(f[2], 10, 32)
			if err == nil && err2 == nil {
				ranges = append(ranges, idRange{first, count})
			}
		}
	}
	return ranges, nil
}
