package tests

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rkt/fetch/ingest/signature/signtest"
)

// BenchmarkSignatures compares fetches and runs of one image under rules that
// accept it and that want it signed, in turns. The layers are in the store, so
// that a fetch is what it asks and decides. `-benchtime=40x` is a good number.
func BenchmarkSignatures(b *testing.B) {
	r := newRegistry(b)
	key, a := signtest.NewKey(b, "ecdsa"), signtest.New(b)
	dir := b.TempDir()
	write(b, filepath.Join(dir, "key.pub"), string(key.PEM()))
	write(b, filepath.Join(dir, "root.json"), string(a.Root()))
	who := signtest.Signing{Subject: "release@team.example", Issuer: "https://token.example"}

	accepted, keyed, named := newHost(b), newHost(b), newHost(b)
	refs := map[*host]string{accepted: r.push("layers", "accepted/app"), keyed: r.push("layers", "keyed/app"), named: r.push("layers", "named/app")}
	manifest := r.get("accepted/app", "latest")
	digest := digestOf(manifest)
	r.attachBundle("keyed/app", digest, len(manifest), key.Bundle(digest, ""))
	r.attachBundle("named/app", digest, len(manifest), a.Bundle(who, digest))
	accepted.must("trust", "add", "--accept", r.addr)
	keyed.must("trust", "add", "--yes", "--key="+filepath.Join(dir, "key.pub"), r.addr)
	named.must("trust", "add", "--yes", "--identity="+who.Subject, "--issuer="+who.Issuer, "--trusted-root="+filepath.Join(dir, "root.json"), r.addr)

	hosts := map[string]*host{"accepted": accepted, "key": keyed, "identity": named}
	took := map[string][]time.Duration{}
	names := []string{"accepted", "key", "identity"}
	for _, h := range hosts {
		h.knows(r)
		h.must("fetch", refs[h])
		h.must("run", "--rm", refs[h], "--", "true")
	}
	for b.Loop() {
		for _, name := range names {
			h := hosts[name]
			begin := time.Now()
			h.must("fetch", "--pull-policy=update", refs[h])
			took["fetch-"+name] = append(took["fetch-"+name], time.Since(begin))
			begin = time.Now()
			h.must("run", "--rm", refs[h], "--", "true")
			took["run-"+name] = append(took["run-"+name], time.Since(begin))
		}
	}
	for what, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, what+"-ms")
	}
}
