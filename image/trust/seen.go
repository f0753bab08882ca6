package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rkt/cas"
	"rkt/internal/atomicfile"
	"rkt/internal/escape"
	"rkt/internal/filelock"
	"rkt/internal/safepath"
	"rkt/internal/strictjson"
)

// Seen remembers which repositories were once signed by somebody who was
// accepted, so that no rule for a longer list of names lets in unsigned images of
// them later. It is a folder with a file for each, which only root can read.
type Seen struct{ dir string }

const maxSighting = 1 << 20 // bytes of a file

// Sighting is what is remembered of a repository.
type Sighting struct {
	Name   string     `json:"name"`
	First  time.Time  `json:"first"`
	Rule   string     `json:"rule"`   // the prefix whose rule has accepted the signer
	Digest cas.Digest `json:"digest"` // what was signed then
	// Who has signed: Keys in PEM form, or Identities, by their exact names.
	Keys       []string   `json:"keys,omitempty"`
	Identities []Identity `json:"identities,omitempty"`
	Proof      string     `json:"proof,omitempty"`
}

// Who names those who have signed, for people.
func (s *Sighting) Who() string {
	var who []string
	for _, text := range s.Keys {
		if k, err := ParseKey([]byte(text)); err == nil {
			who = append(who, "key "+k.Fingerprint)
		}
	}
	for _, i := range s.Identities {
		who = append(who, i.Subject+" ("+i.Issuer+")")
	}
	return strings.Join(who, ", ")
}

// NewSeen returns the memory in dir, which need not exist.
func NewSeen(dir string) *Seen { return &Seen{dir} }

func (s *Seen) file(name string) string { return escape.FileName(name) + ruleSuffix }

// Get returns what is remembered of a repository; nil if it was never seen signed.
// What cannot be read is an error: nobody knows what it would refuse.
func (s *Seen) Get(name string) (*Sighting, error) {
	if s == nil || name == "" {
		return nil, nil
	}
	path := filepath.Join(s.dir, s.file(name))
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("remember who signed %q: %w", name, err)
	}
	sighting := &Sighting{}
	err = strictjson.Decode(b, sighting, strictjson.Options{MaxBytes: maxSighting})
	if err == nil && sighting.Name != name {
		err = errors.New("it is about another repository")
	}
	if err != nil {
		return nil, fmt.Errorf("remember who signed %q: file %q: %w", name, path, err)
	}
	return sighting, nil
}

// Note remembers, durably, that a repository was signed by signer, who was
// accepted by the anchors of a rule.
func (s *Seen) Note(ctx context.Context, name string, rule Rule, a *Anchors, signer *Signer) error {
	if s == nil || name == "" {
		return nil
	}
	known, err := s.Get(name)
	if err != nil {
		return err
	}
	next := Sighting{Name: name, First: time.Now().UTC().Truncate(time.Second), Digest: signer.Digest}
	if known != nil {
		next = *known
	}
	next.Rule, next.Proof = rule.Prefix, rule.Proof
	// What was accepted before stays with it: a rule may name several.
	if !next.add(a, signer) && known != nil && known.Rule == next.Rule && known.Proof == next.Proof {
		return nil
	}
	return s.write(ctx, next)
}

// add notes the signer, who is known by then if false is returned.
func (s *Sighting) add(a *Anchors, signer *Signer) bool {
	if signer.Key == "" {
		id := Identity{Issuer: signer.Issuer, Subject: signer.Subject}
		if slices.Contains(s.Identities, id) {
			return false
		}
		s.Identities = append(slices.Clone(s.Identities), id)
		return true
	}
	for _, k := range a.Keys {
		if k.Fingerprint == signer.Key && !slices.Contains(s.Keys, string(k.PEM)) {
			s.Keys = append(slices.Clone(s.Keys), string(k.PEM))
			return true
		}
	}
	return false
}

func (s *Seen) write(ctx context.Context, sighting Sighting) error {
	b, err := json.MarshalIndent(sighting, "", "  ")
	if err != nil {
		return fmt.Errorf("internal error: encode sighting: %w", err)
	}
	err = s.change(ctx, func() error {
		return atomicfile.Write(s.dir, s.file(sighting.Name), append(b, '\n'), 0o600, true)
	})
	if err != nil {
		return fmt.Errorf("remember who signed %q: %w", sighting.Name, err)
	}
	return nil
}

// change runs fn while nobody else changes the memory.
func (s *Seen) change(ctx context.Context, fn func() error) error {
	if err := safepath.PrivateDir(s.dir); err != nil {
		return err
	}
	l, err := filelock.Open(s.dir)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Exclusive(ctx); err != nil {
		return err
	}
	if err := atomicfile.RemoveTemporary(s.dir); err != nil {
		return err
	}
	return fn()
}

// Below returns what is remembered of the repositories below a prefix, sorted.
func (s *Seen) Below(prefix string) ([]Sighting, error) {
	files, err := s.below(prefix)
	list := slices.Collect(maps.Values(files))
	slices.SortFunc(list, func(a, b Sighting) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// below returns the files about the repositories below a prefix.
func (s *Seen) below(prefix string) (map[string]Sighting, error) {
	if s == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rule := Rule{Prefix: prefix}
	files := map[string]Sighting{}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ruleSuffix || e.Name()[0] == '.' {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var sighting Sighting
		if err == nil {
			err = strictjson.Decode(b, &sighting, strictjson.Options{MaxBytes: maxSighting})
		}
		if err != nil {
			return nil, fmt.Errorf("file %q: %w", filepath.Join(s.dir, e.Name()), err)
		}
		if rule.covers(sighting.Name) {
			files[e.Name()] = sighting
		}
	}
	return files, nil
}

// Forget forgets the repositories below a prefix, durably: somebody has decided
// about them anew.
func (s *Seen) Forget(ctx context.Context, prefix string) error {
	files, err := s.below(prefix)
	if err != nil || len(files) == 0 {
		return err
	}
	return s.change(ctx, func() error {
		for name := range files {
			err := os.Remove(filepath.Join(s.dir, name))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return atomicfile.SyncDir(s.dir)
	})
}

// SightingAnchors are those for a repository that was seen signed: only who signed
// it then may sign it now.
func (p *Policy) SightingAnchors(s *Sighting) (*Anchors, error) {
	a, err := p.Anchors(Rule{Prefix: s.Rule, Identities: s.Identities, Proof: s.Proof})
	if err != nil {
		return nil, err
	}
	a.Keys = nil
	for _, text := range s.Keys {
		k, err := ParseKey([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("key that has signed %q: %w", s.Name, err)
		}
		k.Path = "seen"
		a.Keys = append(a.Keys, k)
	}
	return a, nil
}
