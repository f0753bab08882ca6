module rkt

go 1.26.0

require (
	github.com/containerd/cgroups/v3 v3.1.3 // which cgroup mode the host is in
	github.com/distribution/reference v0.6.0 // tests: the oracle for image/name
	github.com/erofs/go-erofs v0.3.1 // tests: an independent reader of our indexes
	github.com/godbus/dbus/v5 v5.2.4 // stage0/systemd: units of pods, machined
	github.com/klauspost/compress v1.20.3 // gzip and zstd, in rkt-fetch alone; 1.5x the standard library
	github.com/opencontainers/go-digest v1.0.0 // digests of a synthesised manifest, in rkt-fetch
	github.com/opencontainers/image-spec v1.1.1 // the types of manifests that rkt-fetch synthesises
	github.com/opencontainers/runtime-spec v1.3.0 // config.json of the contract
	github.com/sirupsen/logrus v1.10.2 // what goes on after a failure is logged
	github.com/spf13/cobra v1.10.2 // verbs, help and completion
	github.com/spf13/pflag v1.0.9 // flags of verbs and of the apps behind images
	golang.org/x/net v0.62.0 // bpf: the assembler of the seccomp filter; publicsuffix: whose token server it is
	golang.org/x/sync v0.24.0 // errgroup: goroutines with an owner who waits
	golang.org/x/sys v0.49.0 // system calls
)

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/moby/sys/userns v0.1.0 // indirect
)
