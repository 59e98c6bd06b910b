package outside

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

var errPassword = errors.New("KEY_PASSWD does not open it")

// decrypt returns a private key in PEM without its password, if it has one. It
// knows the two forms that openssl writes.
func decrypt(data []byte, password string) ([]byte, error) {
	block, _ := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("holds no key in PEM")
	case block.Type == "ENCRYPTED PRIVATE KEY":
		der, err := decryptPKCS8(block.Bytes, []byte(password))
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	case block.Headers["DEK-Info"] != "":
		//lint:ignore SA1019 that form has no integrity check, but users have such keys
		der, err := x509.DecryptPEMBlock(block, []byte(password))
		if err != nil || !isKey(der) {
			return nil, errPassword
		}
		return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}), nil
	}
	return data, nil
}

// isKey tells a key from what a wrong password makes of it, which one time in 256
// looks well padded.
func isKey(der []byte) bool {
	_, rsa := x509.ParsePKCS1PrivateKey(der)
	_, ec := x509.ParseECPrivateKey(der)
	_, any := x509.ParsePKCS8PrivateKey(der)
	return rsa == nil || ec == nil || any == nil
}

// The structures of RFC 8018 (PBES2) and RFC 5958.
type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2 struct {
		KDF, Cipher pkix.AlgorithmIdentifier
	}
	kdf struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}

	keyBytes = map[string]int{ // AES in CBC mode
		"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32,
	}
	hashes = map[string]func() hash.Hash{ // HMAC with
		"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New, "1.2.840.113549.2.11": sha512.New,
	}
)

// maxIterations bounds the work that a file can ask for.
const maxIterations = 2_000_000

func decryptPKCS8(der, password []byte) ([]byte, error) {
	var key encryptedKey
	var scheme pbes2
	var derivation kdf
	var iv []byte
	if _, err := asn1.Unmarshal(der, &key); err != nil {
		return nil, errors.New("is not an encrypted key")
	}
	if !key.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, fmt.Errorf("is encrypted in an old way (%s): run \"openssl pkcs8 -topk8 -v2 aes256\"", key.Algorithm.Algorithm)
	}
	if _, err := asn1.Unmarshal(key.Algorithm.Parameters.FullBytes, &scheme); err != nil || !scheme.KDF.Algorithm.Equal(oidPBKDF2) {
		return nil, errors.New("is encrypted in a way other than PBKDF2: run \"openssl pkcs8 -topk8 -v2 aes256\"")
	}
	if _, err := asn1.Unmarshal(scheme.KDF.Parameters.FullBytes, &derivation); err != nil {
		return nil, errors.New("is not an encrypted key")
	}
	if _, err := asn1.Unmarshal(scheme.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, errors.New("is not an encrypted key")
	}
	prf := ""
	if derivation.PRF.Algorithm != nil {
		prf = derivation.PRF.Algorithm.String()
	}
	size, hash := keyBytes[scheme.Cipher.Algorithm.String()], hashes[prf]
	if size == 0 || hash == nil || derivation.Iterations < 1 || derivation.Iterations > maxIterations ||
		len(iv) != aes.BlockSize || len(key.Data) == 0 || len(key.Data)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("is encrypted in a way that is not known (%s, %s)", scheme.Cipher.Algorithm, prf)
	}
	derived, err := pbkdf2.Key(hash, string(password), derivation.Salt, derivation.Iterations, size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(key.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, key.Data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errPassword
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return nil, errPassword
		}
	}
	plain = plain[:len(plain)-pad]
	if !isKey(plain) {
		return nil, errPassword
	}
	return plain, nil
}
