package trust

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rkt/cas"
)

func policy(rules ...Rule) *Policy {
	p := &Policy{rules: rules}
	sortRules(p.rules)
	return p
}

func TestDecide(t *testing.T) {
	p := policy(
		Rule{Prefix: "example.com/app", Action: Accept},
		Rule{Prefix: "example.com/app/secret", Action: Reject},
		Rule{Prefix: "example.com/pin", Action: Pinned},
		Rule{Prefix: "localhost:5000", Action: Accept},
		Rule{Prefix: "quay.io", Action: Ask},
	)
	for _, c := range []struct {
		name          string
		pinned, local bool
		want          Action
		rule          string
	}{
		{name: "example.com/app", want: Accept, rule: "example.com/app"},
		{name: "example.com/app/x", want: Accept, rule: "example.com/app"},
		{name: "example.com/app-evil", want: Ask},
		{name: "example.com/appx/y", want: Ask},
		{name: "example.com/app/secret", want: Reject, rule: "example.com/app/secret"},
		{name: "example.com/app/secret/x", pinned: true, want: Reject, rule: "example.com/app/secret"},
		{name: "example.com/app/secretx", want: Accept, rule: "example.com/app"},
		{name: "example.com/pin/x", want: Reject, rule: "example.com/pin"},
		{name: "example.com/pin/x", pinned: true, want: Accept, rule: "example.com/pin"},
		{name: "example.com:8443/app", want: Ask},
		{name: "evil.example.com/app", want: Ask},
		{name: "example.com.evil.org/app", want: Ask},
		{name: "localhost:5000/x", want: Accept, rule: "localhost:5000"},
		{name: "localhost:50000/x", want: Ask},
		{name: "quay.io/x", want: Ask, rule: "quay.io"},
		{name: "example.com/app/secret", local: true, want: Accept},
		{name: "", want: Ask},
	} {
		got := p.Decide(c.name, c.pinned, c.local)
		if got.Action != c.want || got.Rule.Prefix != c.rule || got.Reason == "" {
			t.Errorf("Decide(%q, %v, %v) = %+v, want %s by %q", c.name, c.pinned, c.local, got, c.want, c.rule)
		}
	}
	all := policy(Rule{Prefix: AnyName, Action: Reject}, Rule{Prefix: "a.b", Action: Accept})
	if got := all.Decide("x.y/z", false, false); got.Action != Reject {
		t.Errorf("Decide() with a rule for all = %+v", got)
	}
	if got := all.Decide("a.b/z", false, false); got.Action != Accept {
		t.Errorf("Decide() with a longer rule = %+v", got)
	}
	if got := (&Policy{}).Decide("x.y/z", true, false); got.Action != Ask {
		t.Errorf("Decide() without rules = %+v", got)
	}
}

func TestVerdictHolds(t *testing.T) {
	p := policy(Rule{Prefix: "a.b", Action: Accept}, Rule{Prefix: "s.t", Action: Signed})
	other := policy(Rule{Prefix: "a.b", Action: Accept}, Rule{Prefix: "c.d", Action: Reject}, Rule{Prefix: "s.t", Action: Signed})
	manifest := cas.Of([]byte("manifest"))
	accept, ask, signed := p.Decide("a.b/c", false, false), p.Decide("x.y/z", false, false), p.Decide("s.t/u", false, false)
	anchors := &Anchors{Keys: []Key{{Fingerprint: "f"}}, Root: []byte("root")}
	v := p.Verdict(accept, manifest, false)
	digest := p.Verdict(ask, manifest, false)
	digest.Action = Accept
	byKey := p.Verdict(signed, manifest, false)
	byKey.Signer, byKey.Anchors, byKey.Root = &Signer{Key: "f", Digest: manifest}, anchors.Hash(), anchors.RootHash()
	for name, holds := range map[string]bool{
		"accepted":                 v.Holds(p, accept, nil, manifest),
		"accepted digest":          digest.Holds(p, ask, nil, manifest),
		"signed":                   byKey.Holds(p, signed, anchors, manifest),
		"signed, unrelated change": byKey.Holds(other, signed, anchors, manifest),
	} {
		if !holds {
			t.Errorf("%s: the verdict does not hold", name)
		}
	}
	insecure := byKey
	insecure.Insecure = true
	for name, holds := range map[string]bool{
		"other manifest":  v.Holds(p, accept, nil, cas.Of([]byte("other"))),
		"other policy":    v.Holds(other, accept, nil, manifest),
		"zero":            Verdict{}.Holds(p, accept, nil, cas.Digest{}),
		"overruled":       p.Verdict(ask, manifest, true).Holds(p, accept, nil, manifest),
		"insecure":        insecure.Holds(p, signed, anchors, manifest),
		"asked":           p.Verdict(ask, manifest, false).Holds(p, ask, nil, manifest),
		"now signed":      v.Holds(p, signed, anchors, manifest),
		"now rejected":    v.Holds(p, Decision{Action: Reject}, nil, manifest),
		"other digest":    byKey.Holds(p, signed, anchors, cas.Of([]byte("other"))),
		"no anchors":      byKey.Holds(p, signed, nil, manifest),
		"key removed":     byKey.Holds(p, signed, &Anchors{Root: []byte("root")}, manifest),
		"other root":      byKey.Holds(p, signed, &Anchors{Keys: anchors.Keys, Root: []byte("other")}, manifest),
		"proof is wanted": byKey.Holds(p, signed, &Anchors{Keys: anchors.Keys, Root: anchors.Root, Proof: "log"}, manifest),
		"was signed":      byKey.Holds(p, Decision{Action: Ask}, nil, manifest),
	} {
		if holds {
			t.Errorf("%s: the verdict holds", name)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	for in, want := range map[string]string{
		"*": "*", "quay.io": "quay.io", "Quay.IO/": "quay.io", "docker.io/library": "docker.io/library", "docker://quay.io/a/b": "quay.io/a/b",
		"localhost": "localhost", "localhost:5000/x": "localhost:5000/x", "[::1]:5000": "[::1]:5000", "index.docker.io/library": "docker.io/library",
	} {
		if got, err := ParsePrefix(in); err != nil || got != want {
			t.Errorf("ParsePrefix(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "/", "busybox", "library/nginx", "quay.io/A", "quay.io//a", "quay.io/a//", "quay.io/a:tag", "quay.io/a@sha256:00", "quay.io/*", "**", "*.io",
		"quay.io/../x", "quay.io/a b", "quay.io\n", "https://quay.io", "quay.io/" + strings.Repeat("a", 300), "-x.y", "quay.io/-a",
	} {
		if got, err := ParsePrefix(in); !errors.Is(err, ErrPrefix) {
			t.Errorf("ParsePrefix(%q) = %q, %v, want ErrPrefix", in, got, err)
		}
	}
}

// folders makes a vendor's and a local trust.d with files.
func folders(t *testing.T, vendor, local map[string]string) (vendorDir, localDir string) {
	t.Helper()
	make := func(files map[string]string) string {
		dir := filepath.Join(t.TempDir(), "trust.d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	return make(vendor), make(local)
}

func rules(t *testing.T, dirs ...string) []string {
	t.Helper()
	p, err := Load(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, r := range p.Rules() {
		list = append(list, r.Prefix+" "+string(r.Action))
	}
	return list
}

func TestLoadMergesFolders(t *testing.T) {
	vendor, local := folders(t, map[string]string{
		"a.json": `{"prefix":"a.b","action":"accept"}`,
		"c.json": `{"prefix":"c.d","action":"accept"}`,
		"e.json": `{"prefix":"e.f","action":"accept"}`,
		"g.json": `{"prefix":"g.h","action":"pinned"}`,
	}, map[string]string{
		"a.json": ``,
		"x.json": `{"prefix":"c.d","action":"reject"}`,
		"e.json": `{"prefix":"i.j","action":"ask"}`,
		"README": `not a rule`,
		".t.tmp": `half a rule`,
	})
	want := []string{"c.d reject", "g.h pinned", "i.j ask"}
	if got := rules(t, vendor, local); !slices.Equal(got, want) {
		t.Errorf("rules are %q, want %q", got, want)
	}
	if got := rules(t, filepath.Join(vendor, "absent"), filepath.Join(local, "absent/too")); len(got) != 0 {
		t.Errorf("rules of absent folders are %q", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	const good = `{"prefix":"a.b","action":"accept"}`
	for name, content := range map[string]string{
		"unknown key":       `{"prefix":"a.b","action":"accept","signed":true}`,
		"key in other case": `{"Prefix":"a.b","action":"accept"}`,
		"duplicate key":     `{"prefix":"a.b","action":"reject","action":"accept"}`,
		"comment":           good + ` // trusted`,
		"two values":        good + good,
		"unknown action":    `{"prefix":"a.b","action":"Accept"}`,
		"no action":         `{"prefix":"a.b"}`,
		"no prefix":         `{"action":"accept"}`,
		"empty prefix":      `{"prefix":"","action":"accept"}`,
		"wildcard":          `{"prefix":"a.b/*","action":"accept"}`,
		"other spelling":    `{"prefix":"A.B","action":"accept"}`,
		"space":             ` `,
		"null":              `null`,
		"list":              `[` + good + `]`,
		"large":             `{"prefix":"a.b","action":"` + strings.Repeat("x", maxFile) + `"}`,
	} {
		_, local := folders(t, nil, map[string]string{"r.json": content})
		if p, err := Load(local); err == nil || !strings.Contains(err.Error(), "r.json") {
			t.Errorf("%s: Load() = %+v, %v, want an error that names the file", name, p, err)
		}
	}
	for name, spoil := range map[string]func(dir, file string) error{
		"writable file":   func(_, file string) error { return os.Chmod(file, 0o666) },
		"group-writable":  func(_, file string) error { return os.Chmod(file, 0o664) },
		"foreign file":    func(_, file string) error { return os.Chown(file, 12345, 0) },
		"writable folder": func(dir, _ string) error { return os.Chmod(dir, 0o777) },
		"foreign folder":  func(dir, _ string) error { return os.Chown(dir, 12345, 0) },
		"writable above":  func(dir, _ string) error { return os.Chmod(filepath.Dir(dir), 0o777) },
		"symlinked file": func(_, file string) error {
			return errors.Join(os.Rename(file, file+".moved"), os.Symlink(file+".moved", file))
		},
		"symlinked folder": func(dir, _ string) error {
			return errors.Join(os.Rename(dir, dir+".moved"), os.Symlink(dir+".moved", dir))
		},
		"folder as a file":  func(_, file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o755)) },
		"two for one":       func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, "s.json"), []byte(good), 0o644) },
		"file for a folder": func(dir, _ string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644)) },
	} {
		_, local := folders(t, nil, map[string]string{"r.json": good})
		if err := spoil(local, filepath.Join(local, "r.json")); err != nil {
			t.Fatal(err)
		}
		if p, err := Load(local); err == nil {
			t.Errorf("%s: Load() = %+v", name, p)
		}
	}
}

func TestAddAndRemove(t *testing.T) {
	vendor, _ := folders(t, map[string]string{
		"v.json": `{"prefix":"a.b","action":"accept"}`,
		"w.json": `{"prefix":"c.d","action":"reject"}`,
	}, nil)
	local := filepath.Join(t.TempDir(), "etc/rkt/trust.d")
	add := func(prefix string, action Action) {
		t.Helper()
		if err := Add(local, Rule{Prefix: prefix, Action: action}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(list ...string) {
		t.Helper()
		if got := rules(t, vendor, local); !slices.Equal(got, list) {
			t.Errorf("rules are %q, want %q", got, list)
		}
	}
	remove := func(prefix string) {
		t.Helper()
		if err := Remove(local, []string{vendor}, prefix); err != nil {
			t.Error(err)
		}
	}
	hash := (&Policy{}).Hash()
	add("*", Reject)
	add("a.b", Pinned)
	add("e.f:80/g", Accept)
	want("* reject", "a.b pinned", "c.d reject", "e.f:80/g accept")
	add("e.f:80/g", Ask)
	want("* reject", "a.b pinned", "c.d reject", "e.f:80/g ask")
	if p, err := Load(vendor, local); err != nil || p.Hash() == hash {
		t.Errorf("the hash did not change: %v", err)
	}
	remove("e.f:80/g")
	remove("*")
	remove("c.d") // the vendor's
	want("a.b pinned")
	remove("a.b") // both
	want()
	if err := Remove(local, []string{vendor}, "a.b"); !errors.Is(err, ErrNoRule) {
		t.Errorf("Remove() of what is not there = %v, want ErrNoRule", err)
	}
	add("c.d", Accept) // in spite of the mask
	want("c.d accept")
	for _, r := range []Rule{{Prefix: "busybox", Action: Accept}, {Prefix: "a.b", Action: "yes"}, {Prefix: "../x.y", Action: Accept}, {}} {
		if err := Add(local, r); err == nil {
			t.Errorf("Add(%+v) succeeded", r)
		}
	}
	if st, err := os.Stat(local); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("the folder has mode %v, %v", st.Mode(), err)
	}
}

func TestRefusedTellsTheWayOut(t *testing.T) {
	p := policy(Rule{Prefix: "a.b/pin", Action: Pinned}, Rule{Prefix: "a.b/bad", Action: Reject, Path: "/etc/rkt/trust.d/bad.json"})
	for name, want := range map[string]string{
		"a.b/c": "rkt trust add --accept a.b/c", "a.b/pin/x": "give the digest: a.b/pin/x@sha256:...",
		"a.b/bad/x": `the rule is in /etc/rkt/trust.d/bad.json; rkt trust rm "a.b/bad" would take it out of force`,
	} {
		e := &Refused{Name: name, Decision: p.Decide(name, false, false)}
		if e.Hint() != want || !strings.Contains(e.Error(), name) {
			t.Errorf("%v, hint %q, want %q", e, e.Hint(), want)
		}
	}
	no := &Refused{Name: "a.b/c", Decision: Decision{Action: Reject, Reason: "you said no"}}
	if got := no.Hint(); got != "" {
		t.Errorf("after a no the hint is %q", got)
	}
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{`{"prefix":"a.b","action":"accept"}`, `{"prefix":"*","action":"reject"}`, `{"prefix":"localhost:5000/x","action":"ask"}`, `{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRule(b)
		if err != nil {
			return
		}
		if prefix, err := ParsePrefix(r.Prefix); err != nil || prefix != r.Prefix {
			t.Errorf("accepted the prefix %q", r.Prefix)
		}
		if r.Prefix != AnyName && (!r.covers(r.Prefix) || !r.covers(r.Prefix+"/x") || r.covers(r.Prefix+"x")) {
			t.Errorf("the prefix %q covers the wrong names", r.Prefix)
		}
	})
}
