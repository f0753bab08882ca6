package rootfs

import (
	"fmt"

	"rkt/image/layer"
)

// Accounts are the users and groups of a root: those of the topmost layer that
// has etc/passwd, and of the topmost one that has etc/group.
type Accounts struct {
	passwd, group layer.Accounts
}

// User returns the first user of that name; ok is false when there is none. The
// error says why the users of the image cannot be known.
func (a *Accounts) User(name string) (u layer.User, ok bool, err error) {
	for _, u := range a.passwd.Users {
		if u.Name == name {
			return u, true, nil
		}
	}
	return layer.User{}, false, problem("/etc/passwd", a.passwd.Problem)
}

// UID returns the first user with that number, like User.
func (a *Accounts) UID(uid uint32) (u layer.User, ok bool, err error) {
	for _, u := range a.passwd.Users {
		if u.UID == uid {
			return u, true, nil
		}
	}
	return layer.User{}, false, problem("/etc/passwd", a.passwd.Problem)
}

// Group returns the first group of that name, like User.
func (a *Accounts) Group(name string) (g layer.Group, ok bool, err error) {
	for _, g := range a.group.Groups {
		if g.Name == name {
			return g, true, nil
		}
	}
	return layer.Group{}, false, problem("/etc/group", a.group.Problem)
}

// GroupsOf returns the numbers of the groups that list the user as a member, in
// the order of etc/group and each once.
func (a *Accounts) GroupsOf(name string) ([]uint32, error) {
	var gids []uint32
	seen := map[uint32]bool{}
	for _, g := range a.group.Groups {
		for _, m := range g.Members {
			if m == name && !seen[g.GID] {
				seen[g.GID] = true
				gids = append(gids, g.GID)
			}
		}
	}
	return gids, problem("/etc/group", a.group.Problem)
}

func problem(file, text string) error {
	if text == "" {
		return nil
	}
	return fmt.Errorf("read %s of the image: %s", file, text)
}
