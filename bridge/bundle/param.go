package bundle

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"slurmk8s.io/slurmk8s/bridge/wire"
)

// Type says what a parameter accepts and what becomes of it.
type Type string

// The types. Values of Int, Port and Derived are numbers (int64), of Bool bool, of Label a
// map of one entry, of Arguments a list of {name, value}; all others are text.
const (
	Name      Type = "name"      // a DNS-1035 label, short enough for what templates add to it
	String    Type = "string"    // what the pattern matches
	Int       Type = "int"       //
	Bool      Type = "bool"      // true or false
	Port      Type = "port"      // 1 to 65535
	Enum      Type = "enum"      // one of the choices
	Duration  Type = "duration"  // as Go writes it: 90s, 1h30m
	Quantity  Type = "quantity"  // as Kubernetes writes it: 500m, 2Gi
	Host      Type = "host"      // a DNS name or an address, not of the host itself
	Image     Type = "image"     // a reference that Images of the bundle match
	Tag       Type = "tag"       // of an image that the template names
	Label     Type = "label"     // KEY:VALUE or KEY=VALUE, for $merge
	Arguments Type = "arguments" // any number of PARAMETER.NAME=VALUE
	Derived   Type = "derived"   // From plus Plus, not settable
)

// types are all of them, in the order of the documentation.
var types = []Type{Name, String, Int, Bool, Port, Enum, Duration, Quantity, Host, Image, Tag, Label, Arguments, Derived}

// Param is a declared parameter.
type Param struct {
	Name string
	Type Type
	Help string // one line
	// Default is a value as a user would write it, and may refer to facts of the job.
	// Without it and without Optional the user must give a value.
	Default    string
	HasDefault bool
	Optional   bool
	Min, Max   string   // of int, port, duration, quantity; Max of string: bytes
	Choices    []string // of enum
	// Pattern is the whole of a string, or of the value of each argument but those that
	// Patterns names.
	Pattern  string
	Patterns map[string]string
	// Match are patterns of which a name or string must match one: "*" stands for any text,
	// "{user}" for the name of the job's user.
	Match []string
	From  string // of derived: a parameter of type int
	Plus  int64

	images []string // of the bundle
	// room is how long a name may be, because templates add added to it.
	room  int
	added string
}

const (
	// defaultPattern is for text that is safe anywhere, as part of a path, too.
	defaultPattern = `[A-Za-z0-9][A-Za-z0-9._/@:+-]*`
	tagPattern     = `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`
	imageBytes     = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/:@-"
	maxNameBytes   = validation.DNS1035LabelMaxLength
)

// Required tells whether the user must give a value.
func (p *Param) Required() bool {
	return !p.HasDefault && !p.Optional && p.Type != Derived && p.Type != Arguments && p.Type != Label
}

// ordered are the types that have Min and Max.
func (t Type) ordered() bool { return t == Int || t == Port || t == Duration || t == Quantity }

// isPlain tells whether a value cannot mean anything to a shell, wherever it stands.
func (t Type) isPlain() bool {
	return slices.Contains([]Type{Int, Name, Port, Enum, Bool, Derived}, t)
}

// value reads what a user wrote. The error is a part of a line for that user.
func (p *Param) value(text string) (any, error) {
	if err := p.check(text); err != nil {
		return nil, err
	}
	switch p.Type {
	case Int, Port, Duration, Quantity:
		return p.inBounds(text)
	case Bool:
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("must be true or false")
		}
		return text == "true", nil
	case Host:
		return hostName(text)
	case Label:
		return label(text)
	}
	return text, nil
}

// check refuses text that is not of the parameter's type, if it has no order.
func (p *Param) check(text string) error {
	switch p.Type {
	case Name:
		return p.checkName(text)
	case String:
		return p.checkText(text, p.Pattern)
	case Enum:
		if !slices.Contains(p.Choices, text) {
			return fmt.Errorf("must be one of %s", strings.Join(p.Choices, ", "))
		}
	case Tag:
		return p.checkText(text, tagPattern)
	case Image:
		return p.checkImage(text)
	}
	return nil
}

func (p *Param) checkName(text string) error {
	if len(validation.IsDNS1035Label(text)) > 0 {
		return fmt.Errorf("at most %d lower-case letters, digits and \"-\", a letter first", p.room)
	}
	if len(text) > p.room {
		return fmt.Errorf("at most %d characters, because the bundle adds %q", p.room, p.added)
	}
	return p.checkMatch(text)
}

// of is the parameter for the jobs of one user.
func (p *Param) of(user string) *Param {
	if user == "" || strings.Contains(user, "*") || !strings.Contains(strings.Join(p.Match, " "), "{user}") {
		return p
	}
	theirs := *p
	theirs.Match = slices.Clone(p.Match)
	for i := range theirs.Match {
		theirs.Match[i] = strings.ReplaceAll(theirs.Match[i], "{user}", user)
	}
	return &theirs
}

func (p *Param) checkMatch(text string) error {
	if len(p.Match) == 0 || slices.ContainsFunc(p.Match, func(pattern string) bool { return glob(pattern, text) }) {
		return nil
	}
	return fmt.Errorf("must match one of %s", strings.Join(p.Match, ", "))
}

// checkText holds whatever pattern an administrator wrote: no value has what ends a line,
// a text in quotes or a template of Argo.
func (p *Param) checkText(text, pattern string) error {
	if err := checkPlain(text); err != nil {
		return err
	}
	if most, err := strconv.Atoi(p.Max); err == nil && len(text) > most {
		return fmt.Errorf("longer than %d bytes", most)
	}
	if pattern == "" {
		pattern = defaultPattern
	}
	re, err := whole(pattern)
	if err != nil {
		return err
	}
	if !re.MatchString(text) {
		return fmt.Errorf("must match %s", pattern)
	}
	return p.checkMatch(text)
}

// checkPlain refuses what no text of a user, and no fact of Slurm's, may have anywhere.
func checkPlain(text string) error {
	if len(text) > maxValueBytes {
		return fmt.Errorf("longer than %d bytes", maxValueBytes)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' || strings.IndexByte("\"'`\\", text[i]) >= 0 {
			return fmt.Errorf("only printable ASCII characters, without quotes and \"\\\"")
		}
	}
	if strings.Contains(text, "{{") || strings.Contains(text, "}}") {
		return fmt.Errorf("must not contain {{ or }}")
	}
	return nil
}

func whole(pattern string) (*regexp.Regexp, error) { return regexp.Compile(`\A(?:` + pattern + `)\z`) }

func (p *Param) checkImage(text string) error {
	if text == "" || len(text) > maxValueBytes || strings.Trim(text, imageBytes) != "" ||
		!isAlphanumeric(text[0]) || strings.Contains(text, "//") {
		return fmt.Errorf("not an image such as registry.example.org/group/name:tag")
	}
	if matchesImage(p.images, text) {
		return nil
	}
	return fmt.Errorf("must match one of %s", strings.Join(p.images, ", "))
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func matchesImage(patterns []string, image string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return MatchImage(pattern, image) })
}

// MatchImage tells whether an image matches a pattern, in which "*" stands for any text
// without "/".
func MatchImage(pattern, image string) bool {
	ok, err := path.Match(pattern, image)
	return ok && err == nil
}

// glob is MatchImage for text without "/" in which nothing but "*" is special.
func glob(pattern, text string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == text
	}
	if !strings.HasPrefix(text, first) {
		return false
	}
	text = text[len(first):]
	for i := range len(text) + 1 {
		if glob(rest, text[i:]) {
			return true
		}
	}
	return false
}

// inBounds reads a number, a time or a quantity between Min and Max.
func (p *Param) inBounds(text string) (any, error) {
	order, value, err := p.Type.read(text)
	if err != nil {
		return nil, err
	}
	if p.Min != "" {
		if least, _, err := p.Type.read(p.Min); err == nil && order.Cmp(least) < 0 {
			return nil, fmt.Errorf("at least %s", p.Min)
		}
	}
	if p.Max != "" {
		if most, _, err := p.Type.read(p.Max); err == nil && order.Cmp(most) > 0 {
			return nil, fmt.Errorf("at most %s", p.Max)
		}
	}
	return value, nil
}

// read reads a value of a type that is ordered: how it compares, and the value itself, text
// in the form that is always the same.
func (t Type) read(text string) (order resource.Quantity, value any, err error) {
	switch t {
	case Int, Port:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != text {
			return order, nil, fmt.Errorf("not a number")
		}
		if t == Port && (n < 1 || n > 65535) {
			return order, nil, fmt.Errorf("not a port from 1 to 65535")
		}
		return *resource.NewQuantity(n, resource.DecimalSI), n, nil
	case Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return order, nil, fmt.Errorf("not a time such as 90s or 5m")
		}
		return *resource.NewQuantity(int64(d), resource.DecimalSI), ShortDuration(d), nil
	}
	if len(text) > 32 { // a longer one only costs time
		return order, nil, fmt.Errorf("not a quantity such as 500m or 2Gi")
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		return order, nil, fmt.Errorf("not a quantity such as 500m or 2Gi")
	}
	return q, q.String(), nil
}

// ShortDuration is a time as people write it: 5m, not 5m0s.
func ShortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// hostName refuses the names and addresses that mean the host itself, or its link.
func hostName(text string) (any, error) {
	bad := fmt.Errorf("not a DNS name or an address")
	if len(text) > validation.DNS1123SubdomainMaxLength {
		return nil, bad
	}
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		if a.Zone() != "" || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
			return nil, fmt.Errorf("must not be a loopback, link-local or multicast address")
		}
		return a.String(), nil
	}
	name := strings.ToLower(text)
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return nil, bad
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last == "localhost" {
		return nil, fmt.Errorf("must not be the host itself")
	}
	// 127.1 and 0x7f000001 are addresses to inet_aton(3).
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return nil, bad
	}
	return name, nil
}

// reservedDomains are those whose labels mean something to controllers.
var reservedDomains = []string{"kubernetes.io", "k8s.io", "slurmk8s.io"}

// inDomain tells whether a key is of a domain or of one below it.
func inDomain(key, domain string) bool {
	of, _, has := strings.Cut(key, "/")
	return has && (of == domain || strings.HasSuffix(of, "."+domain))
}

func label(text string) (any, error) {
	at := strings.IndexAny(text, ":=")
	if at < 0 {
		return nil, fmt.Errorf("want KEY:VALUE")
	}
	key, value := text[:at], text[at+1:]
	if len(key) > maxValueBytes || len(validation.IsQualifiedName(key)) > 0 {
		return nil, fmt.Errorf("%s cannot be the key of a label", wire.Quote(key))
	}
	for _, domain := range reservedDomains {
		if inDomain(key, domain) {
			return nil, fmt.Errorf("labels of %s are reserved", domain)
		}
	}
	if len(validation.IsValidLabelValue(value)) > 0 {
		return nil, fmt.Errorf("%s cannot be the value of a label", wire.Quote(value))
	}
	return map[string]any{key: value}, nil
}

// argument checks one PARAMETER.NAME=VALUE.
func (p *Param) argument(name, text string) error {
	if !argumentName().MatchString(name) {
		return fmt.Errorf("an argument's name has letters, digits, \"-\" and \"_\"")
	}
	pattern := p.Pattern
	if own, ok := p.Patterns[name]; ok {
		pattern = own
	}
	return p.checkText(text, pattern)
}

var argumentName = lazily(`\A[A-Za-z0-9_-]{1,63}\z`)
