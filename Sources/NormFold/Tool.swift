/// This program.
///
///     print(Tool.nameAndVersion)
public enum Tool {
  public static let version = "0.1.0"
  public static let nameAndVersion = "normfold \(version)"
}
