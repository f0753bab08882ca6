package kube

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is a mistake in a file.
type Problem struct {
	File    string
	Line    int
	Message string
}

// Error is FILE:LINE: MESSAGE.
func (p *Problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message) }

// Bounds on what a file may hold.
const (
	maxDocuments = 64
	maxDepth     = 32
	maxNodes     = 20000
)

// reader reads YAML strictly: a field that nobody asked for, one that is there
// twice, and a value of another type are problems.
type reader struct {
	file     string
	problems []error
}

// node is a value with its place in the document: spec.containers[0].image.
type node struct {
	*yaml.Node
	r    *reader
	path string
}

// documents parses a file. Anchors and aliases are refused: a few lines of them
// can stand for gigabytes.
func (r *reader) documents(text []byte) []node {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var docs []node
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			r.problems = append(r.problems, &Problem{r.file, lineOf(err), "it is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")})
			return docs
		}
		if len(docs) == maxDocuments {
			r.problems = append(r.problems, &Problem{r.file, doc.Line, fmt.Sprintf("the file has more than %d documents", maxDocuments)})
			return docs
		}
		budget := maxNodes
		if bad := unfit(&doc, 0, &budget); bad != nil {
			r.problems = append(r.problems, &Problem{r.file, bad.Line, "anchors, aliases and very large documents are not supported"})
			return docs
		}
		if len(doc.Content) == 1 && doc.Content[0].Tag != "!!null" {
			docs = append(docs, node{doc.Content[0], r, ""})
		}
	}
}

// lineOf finds the number in "yaml: line 3: ...".
func lineOf(err error) int {
	_, rest, _ := strings.Cut(err.Error(), "line ")
	number, _, _ := strings.Cut(rest, ":")
	n, _ := strconv.Atoi(number)
	return n
}

// unfit finds what a document may not have.
func unfit(n *yaml.Node, depth int, budget *int) *yaml.Node {
	*budget--
	if n.Kind == yaml.AliasNode || n.Anchor != "" || depth > maxDepth || *budget < 0 {
		return n
	}
	for _, child := range n.Content {
		if bad := unfit(child, depth+1, budget); bad != nil {
			return bad
		}
	}
	return nil
}

// fail notes a problem with the value.
func (n node) fail(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if n.path != "" {
		message = n.path + ": " + message
	}
	n.r.problems = append(n.r.problems, &Problem{n.r.file, n.Line, message})
}

// fields hands each field of a mapping to its function.
type fields map[string]func(node)

// each calls the functions for the fields of a mapping. A field without one is a
// problem; null is no field.
func (n node) each(known fields) {
	if n.Kind != yaml.MappingNode {
		n.fail("want a mapping")
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		child := node{value, n.r, strings.TrimPrefix(n.path+"."+key.Value, ".")}
		child.Line = key.Line
		do, ok := known[key.Value]
		switch {
		case seen[key.Value]:
			child.fail("the field is given twice")
		case !ok:
			child.fail("the field is not supported")
		case value.Tag != "!!null":
			do(child)
		}
		seen[key.Value] = true
	}
}

// items calls do for each element of a list.
func (n node) items(do func(node)) {
	if n.Kind != yaml.SequenceNode {
		n.fail("want a list")
		return
	}
	for i, item := range n.Content {
		do(node{item, n.r, fmt.Sprintf("%s[%d]", n.path, i)})
	}
}

// pairs calls do for each entry of a mapping of texts.
func (n node) pairs(do func(name string, value node)) {
	if n.Kind != yaml.MappingNode {
		n.fail("want a mapping")
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		child := node{n.Content[i+1], n.r, n.path + "." + key}
		if seen[key] {
			child.fail("the field is given twice")
		}
		seen[key] = true
		do(key, child)
	}
}

// text is a string. A number or a truth value is a mistake that Kubernetes
// refuses too.
func (n node) text() string {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		n.fail("want a text; write it in quotes")
		return ""
	}
	if strings.ContainsRune(n.Value, 0) {
		n.fail("the text has a NUL character")
	}
	return n.Value
}

// texts is a list of strings.
func (n node) texts() (list []string) {
	list = []string{}
	n.items(func(item node) { list = append(list, item.text()) })
	return list
}

// quantity is a string or a number, as it is written.
func (n node) quantity() string {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" && n.Tag != "!!int" && n.Tag != "!!float" {
		n.fail("want a number")
		return ""
	}
	return n.Value
}

func (n node) truth() bool {
	var b bool
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Decode(&b) != nil {
		n.fail("want true or false")
	}
	return b
}

// number is a whole number between low and high.
func (n node) number(low, high int64) int64 {
	var i int64
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || n.Decode(&i) != nil || i < low || i > high {
		n.fail("want a number from %d to %d", low, high)
		return low
	}
	return i
}

// only accepts the values, for which nothing has to be done.
func only(values ...string) func(node) {
	return func(n node) {
		for _, v := range values {
			if n.Kind == yaml.ScalarNode && n.Value == v {
				return
			}
		}
		n.fail("%q is not supported, known are %s", n.Value, strings.Join(values, ", "))
	}
}

// anything is for fields that mean nothing on one machine.
func anything(node) {}
