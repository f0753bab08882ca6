package stage0

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// file writes a file as /proc and /etc have it.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestChecksOfTheHost(t *testing.T) {
	const missing = "/nonexistent/file"
	tests := map[string]struct {
		got  Check
		want Verdict
		says string
	}{
		"kernel":                 {checkKernel("6.12.1-debian"), Fine, "6.12"},
		"oldest kernel":          {checkKernel("5.19.0"), Fine, ""},
		"old kernel":             {checkKernel("5.18.99"), Failure, "5.19"},
		"odd kernel":             {checkKernel("minix"), Warning, "minix"},
		"namespaces":             {checkUserNamespacesLeft(file(t, "100\n")), Fine, "100"},
		"namespaces forbidden":   {checkUserNamespacesLeft(file(t, "0\n")), Failure, "sysctl"},
		"no namespaces":          {checkUserNamespacesLeft(missing), Failure, "CONFIG_USER_NS"},
		"overlay":                {checkOverlay(file(t, "nodev\tproc\nnodev\toverlay\n")), Fine, ""},
		"no overlay":             {checkOverlay(file(t, "nodev\tproc\n")), Warning, "modprobe overlay"},
		"seccomp":                {checkSeccomp(file(t, "kill_process errno trace log allow\n")), Fine, ""},
		"no seccomp":             {checkSeccomp(missing), Failure, "CONFIG_SECCOMP"},
		"ids":                    {checkIDs(file(t, "user:100000:65536\n")), Fine, "28663"},
		"ids taken":              {checkIDs(file(t, "user:524288:1878522904\n")), Failure, "room for 0"},
		"few ids":                {checkIDs(file(t, "user:524288:1878000000\n")), Warning, "room for"},
		"AppArmor":               {checkAppArmor(file(t, "Y\n")), Fine, "on"},
		"stage1":                 {(&Env{Stage1Dirs: []string{missing}}).checkStage1(), Failure, "install rkt"},
		"capabilities":           {checkPrivileges(file(t, "Name:\tx\nCapEff:\t000001ffffffffff\n")), Fine, ""},
		"some capabilities gone": {checkPrivileges(file(t, "Name:\tx\nCapEff:\t000001ffffdfffff\n")), Failure, "CAP_SYS_ADMIN"},
		"unknown capabilities":   {checkPrivileges(missing), Warning, "mount /proc"},
	}
	for name, tt := range tests {
		if os.Geteuid() != 0 && strings.Contains(name, "capabilities") {
			continue
		}
		if tt.got.Verdict != tt.want || !strings.Contains(tt.got.Found+tt.got.Advice, tt.says) {
			t.Errorf("%s: %+v, want %s and %q", name, tt.got, tt.want, tt.says)
		}
		if tt.got.Verdict != Fine && tt.got.Advice == "" {
			t.Errorf("%s: %+v does not say what to do", name, tt.got)
		}
	}
}
