package plan

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"rkt/image/layer"
)

// Accounts are the users and groups of an image, as its topmost passwd and
// group files have them. An image without these files has none. An error says
// that they cannot be known.
type Accounts interface {
	User(name string) (u layer.User, ok bool, err error)
	UID(uid uint32) (u layer.User, ok bool, err error)
	Group(name string) (g layer.Group, ok bool, err error)
	GroupsOf(user string) ([]uint32, error)
}

// Who is who an app runs as.
type Who struct {
	UID, GID uint32
	Groups   []uint32 // supplementary; never the image's unless asked for
	Home     string   // "" = unknown
}

// MaxID returns the largest user and group ID of a pod, with or without a user
// namespace of its own.
func MaxID(private bool) uint32 {
	if private {
		return RangeSize - 1
	}
	return math.MaxInt32
}

// RangeSize is how many IDs a pod with a user namespace has.
const RangeSize = 1 << 16

// isAccountName is the grammar of names: what useradd makes, with the capitals
// that Debian has and the dollar of Samba. A name never begins with a digit, so
// that a number is never a name.
func isAccountName(s string) bool {
	s = strings.TrimSuffix(s, "$")
	if s == "" || len(s) > maxName {
		return false
	}
	for i, r := range []byte(s) {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', r == '_':
		case i > 0 && ('0' <= r && r <= '9' || r == '.' || r == '-'):
		default:
			return false
		}
	}
	return true
}

// Resolve finds out who user ("", a name or a number, with ":" and a group or
// without) is in an image. group, if not empty, replaces the group. What looks
// like a number is one, whatever the image's passwd says. The primary group is
// that of passwd; a number that is not in passwd is its own group.
func Resolve(user, group string, accounts Accounts, max uint32) (Who, error) {
	name, ofUser, hasGroup := strings.Cut(user, ":")
	if hasGroup && (name == "" || ofUser == "") {
		return Who{}, fmt.Errorf("user %q: want user or user:group", user)
	}
	if group == "" {
		group = ofUser
	}
	who, err := resolveUser(name, accounts, max)
	if err != nil {
		return Who{}, err
	}
	if group != "" {
		if who.GID, err = resolveGroup(group, accounts, max); err != nil {
			return Who{}, err
		}
	}
	if who.GID > max {
		return Who{}, fmt.Errorf("user %q: %w", user, outside("group", uint64(who.GID), max))
	}
	return who, nil
}

func resolveUser(name string, accounts Accounts, max uint32) (Who, error) {
	if name == "" {
		name = "0"
	}
	uid, isNumber, err := number(name, "user", max)
	if err != nil {
		return Who{}, err
	}
	if isNumber {
		// A number needs no passwd: what is wrong with the file does not matter.
		entry, found, err := accounts.UID(uid)
		if err != nil || !found {
			return Who{UID: uid, GID: uid}, nil
		}
		return Who{UID: uid, GID: entry.GID, Home: entry.Home}, nil
	}
	if !isAccountName(name) {
		return Who{}, fmt.Errorf("user %q is neither a number nor a name", name)
	}
	entry, found, err := accounts.User(name)
	if err != nil {
		return Who{}, fmt.Errorf("user %q: %w", name, err)
	}
	if !found && name == "root" {
		return Who{}, nil // an image from scratch has no passwd
	}
	if !found {
		return Who{}, fmt.Errorf("user %q is not in the image's /etc/passwd", name)
	}
	if entry.UID > max {
		return Who{}, fmt.Errorf("user %q: %w", name, outside("user", uint64(entry.UID), max))
	}
	return Who{UID: entry.UID, GID: entry.GID, Home: entry.Home}, nil
}

func resolveGroup(name string, accounts Accounts, max uint32) (uint32, error) {
	gid, isNumber, err := number(name, "group", max)
	if err != nil || isNumber {
		return gid, err
	}
	if !isAccountName(name) {
		return 0, fmt.Errorf("group %q is neither a number nor a name", name)
	}
	entry, found, err := accounts.Group(name)
	if err != nil {
		return 0, fmt.Errorf("group %q: %w", name, err)
	}
	if !found {
		return 0, fmt.Errorf("group %q is not in the image's /etc/group", name)
	}
	if entry.GID > max {
		return 0, fmt.Errorf("group %q: %w", name, outside("group", uint64(entry.GID), max))
	}
	return entry.GID, nil
}

// number parses what begins with a digit as an ID. A sign, a space or another
// base make it an error and never a name.
func number(s, kind string, max uint32) (id uint32, isNumber bool, err error) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, true, fmt.Errorf("%s %q is out of range", kind, s)
	}
	if err != nil {
		return 0, true, fmt.Errorf("%s %q begins with a digit and is not a decimal number", kind, s)
	}
	if n > uint64(max) {
		return 0, true, outside(kind, n, max)
	}
	return uint32(n), true, nil
}

// rangeError reports an ID that a pod cannot have.
type rangeError struct {
	kind string
	id   uint64
	max  uint32
}

func outside(kind string, id uint64, max uint32) error { return &rangeError{kind, id, max} }

func (e *rangeError) Error() string {
	return fmt.Sprintf("%s id %d is above %d, the highest of this pod", e.kind, e.id, e.max)
}

// Hint says what to do about it.
func (e *rangeError) Hint() string {
	if e.max == MaxID(true) && e.id <= uint64(MaxID(false)) {
		return "use --private-users=no to run with the host's ids"
	}
	return ""
}

// who resolves the user of an app and its groups.
func (c *compiler) who(a *App) (Who, error) {
	max := MaxID(c.private())
	user := a.Image.Config.User
	if a.User != "" {
		user = a.User
	}
	who, err := Resolve(user, a.Group, a.Accounts, max)
	if err != nil {
		return Who{}, err
	}
	who.Groups = slices.Clone(a.Groups)
	if a.MergeGroups {
		more, err := groupsOf(user, who.UID, a.Accounts)
		if err != nil {
			return Who{}, err
		}
		who.Groups = append(who.Groups, more...)
	}
	slices.Sort(who.Groups)
	who.Groups = slices.Compact(who.Groups)
	for _, g := range who.Groups {
		if g > max {
			return Who{}, outside("group", uint64(g), max)
		}
	}
	return who, nil
}

// groupsOf are the groups that the image's group file gives to the user, who
// was called by a name or by the number uid.
func groupsOf(user string, uid uint32, accounts Accounts) ([]uint32, error) {
	name, _, _ := strings.Cut(user, ":")
	if !isAccountName(name) {
		entry, found, err := accounts.UID(uid)
		if err != nil || !found {
			return nil, err
		}
		name = entry.Name
	}
	return accounts.GroupsOf(name)
}
