package supervise

import (
	"fmt"
	"io"
	"os"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// Explain is the explain entrypoint: it prints the program of the sandbox and of
// the start of each app of the pod in the working directory, one system call a
// line, without running anything. File descriptors are made-up numbers. What the
// host lends need not be there: a pod that is only prepared has no host.json.
func Explain(f Flavour, w io.Writer) error {
	pod, host, err := loadDead()
	if err != nil {
		return err
	}
	if host == nil {
		host = &contract.Host{Version: contract.Version}
	}
	apps, err := loadApps(pod)
	if err != nil {
		return err
	}
	if p := f.ExplainSandbox(pod, host, confs(apps)); p != nil {
		if _, err := fmt.Fprintf(w, "sandbox:\n%s", p); err != nil {
			return err
		}
	}
	for _, a := range apps {
		t := &Task{
			Pod: pod, Host: host, Dir: a.dir(), App: a.conf, Spec: a.spec,
			Stdio: [3]int{0, 1, 2}, KeepCapabilities: !f.Confines(), Explain: true,
		}
		t.takeUnit()
		p, release, err := f.Start(t)
		if err != nil {
			return fmt.Errorf("app %s: %w", a.name, err)
		}
		release()
		if _, err := fmt.Fprintf(w, "app %s:\n%s", a.name, p); err != nil {
			return err
		}
	}
	return nil
}

// ExplainSandbox is the program that makes the namespaces of the pod, nil if
// there are none to make.
func (n *Native) ExplainSandbox(pod *contract.Pod, host *contract.Host, apps []*contract.App) *program.Program {
	p, _, all := compile.Sandbox(pod, host, sharesPID(apps))
	if all == 0 {
		return nil
	}
	return p
}

// Numbers of descriptors for programs that are only printed.
const (
	pretendNamespace = 10
	pretendMount     = 20
)

// pretendNamespaces are those that a start of t would join.
func pretendNamespaces(t *Task) Join {
	number := func(n int, wanted bool) int {
		if !wanted {
			return none
		}
		return pretendNamespace + n
	}
	return func() (compile.Namespaces, error) {
		return compile.Namespaces{
			User: number(0, t.Pod.User == contract.Private),
			Net:  number(1, t.Pod.Net.Mode != contract.NetHost),
			IPC:  number(2, t.Pod.IPC == contract.Private),
			UTS:  number(3, t.Pod.UTS == contract.Private),
			PID:  number(4, t.App.PID == contract.PIDPod),
		}, nil
	}
}

// pretend fills in numbers of mounts that a start might have.
func (r *opened) pretend(t *Task) {
	next := pretendMount
	number := func() int {
		next++
		return next - 1
	}
	for _, h := range (cgroups{t.Host.Cgroup}).legacy() {
		r.Tasks = append(r.Tasks, compile.Tasks{FD: number(), Name: h.name})
	}
	for range t.App.Layers {
		r.Layers = append(r.Layers, number())
	}
	r.Upper = number()
	r.Binds = map[int]compile.Bind{}
	for i, m := range t.Spec.Mounts {
		if compile.IsBind(m) {
			st, err := os.Stat(m.Source)
			dir := err != nil && m.Destination != contract.NotifyPath || err == nil && st.IsDir()
			r.Binds[i] = compile.Bind{FD: number(), Dir: dir}
		}
	}
}
