package slurmconf

import (
	"path"
	"slices"
	"strings"
	"time"
)

// Bundles configures `--k8s-bundle` and directives "bundle NAME".
type Bundles struct {
	// Dirs are absolute paths of directories with bundles; the first that has a bundle of a
	// name counts. Default: BundleDirs.
	Dirs []string `toml:"dirs"`
	// Kubeconfig is the absolute path of the credential that makes and removes the objects of
	// bundles, on the controller. Default: "", that of kubernetes.kubeconfig.
	Kubeconfig string `toml:"kubeconfig"`
	// MaxTimeout is the longest that a bundle may take to be ready, whatever its bundle.toml
	// says; 1s to 24h. Default: 30m.
	MaxTimeout Duration `toml:"max_timeout"`
	// MaxBundles is how many one job may have, 1 to 8. Default: 4.
	MaxBundles int `toml:"max_bundles"`
	// Impersonate is the Kubernetes user to impersonate for a job's user, such as
	// "slurmk8s:bundle-user:{user}": RBAC then applies to what the job's bundles make. Default: "",
	// only the rules apply.
	Impersonate string `toml:"impersonate"`
	// ImpersonateGroups are groups of that user. Default: none.
	ImpersonateGroups []string `toml:"impersonate_groups"`
	// Allow are the rules. A bundle is refused unless one of them allows it. Default: none.
	Allow []BundleRule `toml:"allow"`
}

// BundleRule allows some users some bundles. It needs at least one of Users, Groups and
// Accounts; one match is enough.
type BundleRule struct {
	Users    []string `toml:"users"`    // user names; "*" is everybody
	Groups   []string `toml:"groups"`   // names of Unix groups
	Accounts []string `toml:"accounts"` // Slurm accounts
	// Bundles are names of bundles; "*" stands for any text.
	Bundles []string `toml:"bundles"`
	// Namespaces that their objects may be in; the first without "*" is the default one.
	// "*" stands for any text, "{user}" for the user's name.
	Namespaces []string `toml:"namespaces"`
	// Limits are the most that parameters of the types int, port, duration and quantity may be,
	// by their names; a number or a text such as "64Gi". Default: what each bundle says.
	Limits map[string]any `toml:"limits"`
	// Images are patterns, one of which parameters of type image must match; "*" stands for any
	// text without "/". Default: what each bundle says.
	Images []string `toml:"images"`
}

// Subjects are whom the rule is for.
func (r BundleRule) Subjects() Subjects { return Subjects{r.Users, r.Groups, r.Accounts} }

func defaultBundles() Bundles {
	return Bundles{Dirs: BundleDirs, MaxTimeout: Duration(30 * time.Minute), MaxBundles: 4}
}

func defaultBundleRule() BundleRule { return BundleRule{} }

// Named are the namespaces that the rules name, and do not describe by a pattern.
func (b *Bundles) Named() []string {
	var patterns []string
	for _, rule := range b.Allow {
		patterns = append(patterns, rule.Namespaces...)
	}
	return withoutPatterns(patterns)
}

// HasPatterns tells whether a rule describes namespaces by a pattern, so that Named does
// not have all.
func (b *Bundles) HasPatterns() bool {
	return slices.ContainsFunc(b.Allow, func(r BundleRule) bool { return slices.ContainsFunc(r.Namespaces, isPattern) })
}

// Searched are the namespaces that may have bundles; "" is every one.
func (b *Bundles) Searched() []string {
	if b.HasPatterns() {
		return []string{""}
	}
	return b.Named()
}

func (d *document) validateBundles(b *Bundles) error {
	if len(b.Dirs) == 0 {
		return d.invalid("bundles.dirs", "empty: name at least one directory")
	}
	for _, dir := range b.Dirs {
		if err := d.checkPath("bundles.dirs", dir); err != nil {
			return err
		}
	}
	if b.MaxBundles < 1 || b.MaxBundles > 8 {
		return d.invalid("bundles.max_bundles", "%d is out of range, 1 to 8", b.MaxBundles)
	}
	if err := d.checkImpersonation("bundles", b.Impersonate, b.ImpersonateGroups); err != nil {
		return err
	}
	if strings.HasPrefix(b.Impersonate, "slurmk8s:user:") {
		return d.invalid("bundles.impersonate", "%s is for services, and kept away from bundles by node.yaml: write for example \"slurmk8s:bundle-user:{user}\"", quoted(b.Impersonate))
	}
	for i, r := range b.Allow {
		wrong := func(key, format string, args ...any) error {
			return d.invalidInRule("bundles", i, key, format, args...)
		}
		if err := checkSubjects(r.Subjects(), wrong); err != nil {
			return err
		}
		if len(r.Bundles) == 0 {
			return wrong("bundles", "not set: a rule must name bundles")
		}
		for _, name := range r.Bundles {
			if strings.Contains(name, "{user}") || !isNamePattern(name) {
				return wrong("bundles", "%s cannot match the name of a bundle: write lower-case letters, digits, \"-\" and \"*\"", quoted(name))
			}
		}
		if err := checkPatterns("namespaces", r.Namespaces, wrong); err != nil {
			return err
		}
		if r.Images != nil && len(r.Images) == 0 {
			return wrong("images", "empty: leave it out, or name at least one")
		}
		for _, pattern := range r.Images {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				return wrong("images", "%s cannot match an image: write such as \"registry.example.org/group/*\"", quoted(pattern))
			}
		}
		for name, most := range r.Limits {
			switch most.(type) {
			case int64, string:
			default:
				return wrong("limits", "%s: want a number or a quoted text such as \"64Gi\"", name)
			}
		}
	}
	return nil
}
