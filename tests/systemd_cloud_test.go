package tests

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestCloudInit looks at a machine whose first boot was told by tests/vm/seed to
// install rkt and to write a Quadlet file: it runs the pod.
func TestCloudInit(t *testing.T) {
	needSystemd(t)
	if b, err := os.ReadFile("/run/cloud-init/cloud-id"); err != nil || strings.TrimSpace(string(b)) != "nocloud" {
		t.Skipf("this machine did not boot with a seed: %q, %v", b, err)
	}
	if r := tool(t, "cloud-init", "status", "--wait", "--long"); r.code != 0 {
		t.Errorf("cloud-init: exit code %d: %s%s\n%s", r.code, r.stdout, r.stderr, tool(t, "tail", "-n", "60", "/var/log/cloud-init-output.log").stdout)
	}
	u := &unit{t: t, name: "greeter.service"}
	if got := u.property("ActiveState") + " " + u.property("Type"); got != "active notify" {
		t.Errorf("the service is %s:\n%s", got, u.journal())
	}
	eventually(t, func() error {
		if b, err := os.ReadFile("/srv/greeter/said"); err != nil || string(b) != "greetings from sh\n" {
			return fmt.Errorf("the pod said %q, %v", b, err)
		}
		return nil
	})
	if list := packaged(t, "list", "--no-legend"); !strings.Contains(list, "greeter") || !strings.Contains(list, "running") {
		t.Errorf("the pod is not in the list: %s", list)
	}
	// A later boot needs no cloud-init: the file is there and wanted.
	if wants := mustTool(t, "systemctl", "show", "--value", "--property=Wants", "multi-user.target"); !strings.Contains(" "+wants+" ", " greeter.service ") {
		t.Errorf("multi-user.target does not want the pod: %s", wants)
	}
	mustTool(t, "systemctl", "stop", u.name)
}
