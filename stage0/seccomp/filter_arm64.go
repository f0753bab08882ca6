package seccomp

import _ "embed" // for the compiled profile

//go:embed default_arm64.bpf
var filter []byte
