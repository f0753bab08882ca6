package rootfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"rkt/cas"
	"rkt/image/layer"
	"rkt/internal/mutant"
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

// maxAccounts bounds a file of accounts, in bytes.
const maxAccounts = 64 << 20

// accountsSum is what a file of accounts begins with: a sum over the layer's
// digest and the facts after it.
func accountsSum(d cas.Digest, facts []byte) []byte {
	h := sha256.New()
	h.Write([]byte("accounts of " + d.Hex() + "\n"))
	h.Write(facts)
	return h.Sum(nil)
}

// writeAccounts writes the accounts of a layer, and whether its root is opaque:
// a sum, and a facts file.
func writeAccounts(f *os.File, tree *layer.Tree, d cas.Digest) error {
	var facts bytes.Buffer
	if err := writeAccountFacts(&facts, tree); err != nil {
		return err
	}
	_, err := f.Write(append(accountsSum(d, facts.Bytes()), facts.Bytes()...))
	return err
}

func writeAccountFacts(f io.Writer, tree *layer.Tree) error {
	w := layer.NewWriter(f)
	if tree.OpaqueRoot {
		if err := w.Fact(&layer.Fact{Path: ".", Kind: layer.Opaque}); err != nil {
			return err
		}
	}
	if err := w.Accounts(tree.Accounts); err != nil {
		return err
	}
	return w.Close(tree.Summary)
}

// declared is what one layer says about the root beyond its files.
type declared struct {
	accounts   *layer.Accounts
	opaqueRoot bool
}

// declaredBy reads the accounts of a layer, derived if they are missing.
func (l *Layers) declaredBy(ctx context.Context, d cas.Digest) (declared, error) {
	store, ok := l.o.Stores.Find(d)
	if !ok {
		return declared{}, fmt.Errorf("accounts of layer %s: %w", d, cas.ErrNotFound)
	}
	f, err := l.findDerived(store, kindAccounts, d)
	if errors.Is(err, cas.ErrNotFound) {
		if err := l.derive(ctx, store, kindAccounts, d); err != nil {
			return declared{}, fmt.Errorf("accounts of layer %s: %w", d, err)
		}
		f, err = l.findDerived(store, kindAccounts, d)
	}
	if err != nil {
		return declared{}, err
	}
	defer f.Close()
	says, err := readAccounts(f, d)
	if errors.Is(err, layer.ErrMalformed) {
		return declared{}, damaged(d, fmt.Errorf("accounts of layer %s: %w: %w", d, cas.ErrCorrupt, err))
	}
	return says, err
}

// readAccounts reads and verifies a file of accounts: a name in it decides which
// user an app is. The error of a damaged one is layer.ErrMalformed.
func readAccounts(f *os.File, d cas.Digest) (says declared, err error) {
	b, err := io.ReadAll(io.LimitReader(f, maxAccounts))
	if err != nil {
		return declared{}, err
	}
	if len(b) < sha256.Size || !bytes.Equal(b[:sha256.Size], accountsSum(d, b[sha256.Size:])) && !mutant.On("noverifyaccounts") {
		return declared{}, fmt.Errorf("%w: it does not have the content it was written with", layer.ErrMalformed)
	}
	r := layer.NewReader(bytes.NewReader(b[sha256.Size:]))
	for {
		fact, err := r.Next()
		if errors.Is(err, io.EOF) {
			says.accounts = r.Accounts()
			return says, nil
		}
		if err != nil {
			return declared{}, err
		}
		says.opaqueRoot = says.opaqueRoot || fact.Path == "." && fact.Kind == layer.Opaque
	}
}

// Accounts returns the users and groups of a root made of the layers, bottom
// first. The error is cas.ErrNotFound when a layer is in no store.
func (l *Layers) Accounts(ctx context.Context, diffIDs []cas.Digest) (*Accounts, error) {
	a := &Accounts{}
	var passwd, group bool
	for _, d := range slices.Backward(diffIDs) {
		says, err := l.declaredBy(ctx, d)
		if err != nil {
			return nil, err
		}
		if says.accounts.HasPasswd && !passwd {
			a.passwd, passwd = *says.accounts, true
		}
		if says.accounts.HasGroup && !group {
			a.group, group = *says.accounts, true
		}
		if passwd && group || says.opaqueRoot {
			break
		}
	}
	return a, nil
}

// Visible returns those of the layers, bottom first, that have a part in the
// root: not those below a layer whose root is opaque, which an overlay would
// wrongly show.
func (l *Layers) Visible(ctx context.Context, diffIDs []cas.Digest) ([]cas.Digest, error) {
	for i, d := range slices.Backward(diffIDs) {
		says, err := l.declaredBy(ctx, d)
		if err != nil {
			return nil, err
		}
		if says.opaqueRoot {
			return diffIDs[i:], nil
		}
	}
	return diffIDs, nil
}
