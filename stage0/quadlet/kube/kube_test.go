package kube

import (
	"errors"
	"strings"
	"testing"
)

const head = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"

// problems reads text and returns what is wrong with it.
func problems(text string) string {
	_, err := Read([]File{{Path: "f.yaml", Text: []byte(text)}})
	if err == nil {
		return ""
	}
	var p *Problem
	if !errors.As(err, &p) || p.File != "f.yaml" {
		return "a problem without a place: " + err.Error()
	}
	return err.Error()
}

func TestWhatIsRefused(t *testing.T) {
	pod := func(spec string) string { return head + "spec: " + spec + "\n" }
	container := func(fields string) string {
		return pod("{containers: [{name: c, image: a, " + fields + "}]}")
	}
	for _, tt := range []struct{ text, want string }{
		{container("livenessProbe: {}"), "f.yaml:4: spec.containers[0].livenessProbe: the field is not supported"},
		{container("securityContext: {privileged: true}"), `spec.containers[0].securityContext.privileged: "true" is not supported`},
		{container("ports: [{containerPort: 80, hostPort: 80, protocol: SCTP}]"), "a port of SCTP cannot be published"},
		{container("ports: [{containerPort: 80, hostPort: 80, hostIP: everywhere}]"), `hostIP: "everywhere" is no address`},
		{container("ports: [{hostPort: 80}]"), "there is no containerPort"},
		{container("env: [{name: A, value: 1}]"), "env[0].value: want a text; write it in quotes"},
		{container("env: [{name: 'A=B', value: x}]"), `"A=B" is not the name of a variable`},
		{container("env: [{name: '#A', value: x}]"), "is not the name of a variable"},
		{container("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]"), `there is no Secret "s"`},
		{container("resources: {limits: {memory: lots}}"), `"lots" is not a size`},
		{container("resources: {limits: {cpu: 0}}"), "not a number of processors"},
		{container("resources: {limits: {nvidia.com/gpu: 1}}"), "nvidia.com/gpu: the field is not supported"},
		{container("image: b"), "image: the field is given twice"},
		{container("volumeMounts: [{name: v, mountPath: /x}]"), `mounts "v", which is no volume`},
		{container("volumeMounts: [{name: v, mountPath: '/x:/y'}]"), "is not an absolute path"},
		{container("securityContext: {runAsNonRoot: true}"), "runAsNonRoot needs runAsUser"},
		{container("securityContext: {capabilities: {add: ['A,B --x']}}"), "is not a capability"},
		{pod("{containers: [], initContainers: []}"), "spec.initContainers: the field is not supported"},
		{pod("{containers: []}"), "there are no containers"},
		{pod("{containers: [{name: c, image: a}, {name: c, image: a}]}"), `two containers "c"`},
		{pod("{containers: [{name: '../x', image: a}]}"), "is not that of a container"},
		{pod("{containers: [{name: c, image: a}], volumes: [{name: v, emptyDir: {}}]}"), "mounted nowhere"},
		{pod("{hostPID: true, containers: [{name: c, image: a}]}"), "hostPID"},
		{pod("{containers: [{name: c, image: a, volumeMounts: [{name: v, mountPath: /v, subPath: ../x}]}], volumes: [{name: v, hostPath: {path: /srv}}]}"), "leaves the volume"},
		{pod("{containers: [{name: c, image: a, volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, hostPath: {path: srv}}]}"), "not an absolute path"},
		{pod("[]"), "spec: want a mapping"},
		{"", "there is no Pod in it"},
		{"kind: Service\n", `kind "Service" is not supported`},
		{head + "spec: {containers: [{name: c, image: a}]}\n---\n" + head + "spec: {containers: [{name: c, image: a}]}\n", "this is a second one"},
		{"a: &x [1]\nb: *x\n", "anchors, aliases"},
		{"a: [", "it is not YAML"},
		{strings.Repeat("[", 5000), "f.yaml"},
		{strings.Repeat("- a\n", 30000), "very large documents"},
		{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 2, template: {spec: {containers: [{name: c, image: a}]}}}\n", "spec.replicas: want a number from 1 to 1"},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {../x: a}\n", "is not a key"},
		{"apiVersion: v1\nkind: Secret\nmetadata: {name: m}\ndata: {x: '***'}\n", "it is not base64"},
	} {
		if got := problems(tt.text); !strings.Contains(got, tt.want) {
			t.Errorf("%.200s\ngives %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestDeployment(t *testing.T) {
	p, err := Read([]File{{Path: "f.yaml", Text: []byte(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {a: b}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      securityContext: {runAsUser: 1000, supplementalGroups: [5], sysctls: [{name: net.a, value: "1"}]}
      restartPolicy: OnFailure
      containers:
      - {name: one, image: a, imagePullPolicy: Always, resources: {limits: {cpu: 1.5, memory: 1G}}}
      - {name: two, image: b, securityContext: {runAsUser: 0, allowPrivilegeEscalation: true}}
status: {}
`)}})
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "web" || p.Labels["app"] != "web" || p.Restart != "on-failure" || len(p.Containers) != 2 || len(p.Sysctls) != 1 {
		t.Errorf("the pod is %+v", p)
	}
	one, two := p.Containers[0], p.Containers[1]
	if one.User != "1000" || one.Groups[0] != "5" || one.Pull != "update" || one.CPUMillis != 1500 || one.Memory != "1000000000" {
		t.Errorf("the first container is %+v", one)
	}
	if two.User != "0" || !two.Escalate {
		t.Errorf("the second container is %+v", two)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(head + "spec: {containers: [{name: c, image: a, env: [{name: A, value: b}]}]}\n")
	f.Add("- a\n- ~\n? x\n: y\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Read([]File{{Path: "f.yaml", Text: []byte(text)}})
		if err == nil && (p == nil || len(p.Containers) == 0) {
			t.Error("a pod without containers is no error")
		}
	})
}
