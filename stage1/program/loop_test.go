package program

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

// TestNothingInTheChildGrowsAStack reads the source: between the clone and the
// execve there is no runtime that could, so every function there must be nosplit,
// which makes the linker prove that their frames fit.
func TestNothingInTheChildGrowsAStack(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "loop.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		checked++
		if !slices.ContainsFunc(fn.Doc.List, func(c *ast.Comment) bool { return c.Text == "//go:nosplit" }) {
			t.Errorf("%s is not nosplit", fn.Name.Name)
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.DeferStmt, *ast.FuncLit, *ast.CompositeLit, *ast.RangeStmt:
				if r, ok := n.(*ast.RangeStmt); ok {
					if _, isCall := r.X.(*ast.CallExpr); !isCall {
						return true // over a slice or an array: nothing is called
					}
				}
				t.Errorf("%s uses %T", fn.Name.Name, n)
			}
			return true
		})
	}
	if checked < 10 {
		t.Errorf("only %d functions found", checked)
	}
}
